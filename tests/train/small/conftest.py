"""Pictures in memory for the training of the bundled model, on one thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn import functional

from napari_histosam.models.small.encoder import Features
from napari_histosam.train.small.pool import measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from napari_histosam.models.small.prompt_maps import PromptBatch
    from napari_histosam.train.small.pool import Picture


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums depend on how many threads share them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def picture(paint: Callable) -> Callable[..., Picture]:
    """Return what makes a `Picture` of discs."""

    def made(height: int, width: int, *discs: tuple[float, float, float], **more) -> Picture:
        name = more.pop("name", "dsb_1")
        return measured(name, *paint(height, width, *discs, **more))

    return made


@pytest.fixture(scope="session")
def nuclei(picture: Callable[..., Picture]) -> list[Picture]:
    """Three small pictures, one of them of fluorescence."""
    return [
        picture(160, 160, (40, 40, 14), (100, 60, 20), (60, 120, 16), name="dsb_1"),
        picture(128, 180, (30, 64, 9), (56, 60, 11), (140, 70, 30), name="ebhi_1"),
        picture(
            150, 150, (50, 50, 15), (90, 100, 22),
            name="dsbf_1", colour=(190, 190, 190), ground=(12, 12, 12),
        ),
    ]  # fmt: skip


@pytest.fixture(scope="session")
def disc() -> Callable[..., NDArray[np.bool_]]:
    """Return what makes the mask of a disc."""

    def made(x: float, y: float, radius: float, side: int = 128) -> NDArray[np.bool_]:
        rows, columns = np.mgrid[:side, :side] + 0.5
        return (columns - x) ** 2 + (rows - y) ** 2 < radius**2

    return made


class DarkNet:
    """A network whose masks are what is dark in the picture, or nothing.

    Parameters
    ----------
    sees : callable
        Gets the number of clicks and whether there is a box; says for each of the three masks
        whether it shows the dark parts.
    scores : sequence of float
        Predicted IoUs of the three masks.
    """

    def __init__(
        self, sees: Callable[[int, bool], Sequence[bool]], scores: Sequence[float] = (0.5,) * 3
    ) -> None:
        self.sees, self.scores = sees, scores
        self.asked: list[PromptBatch] = []
        self.training, self.halved = True, False

    def eval(self) -> DarkNet:
        self.training = False
        return self

    def encode(self, pixels: torch.Tensor) -> Features:
        assert pixels.min() >= 0
        assert 0.5 < pixels.max() <= 1
        return Features(pixels, pixels, pixels, pixels)

    def decode(self, features: Features, prompts: PromptBatch) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked.append(prompts)
        self.halved = torch.is_autocast_enabled("cpu")
        small = functional.avg_pool2d(features.half, 2)
        shown = torch.where(small.mean(1) < 0.6, 8.0, -8.0)
        rows = []
        for dark, labels, box in zip(shown, prompts.labels, prompts.boxes, strict=True):
            seen = self.sees(int((labels >= 0).sum()), not bool(box.isnan().any()))
            rows.append(torch.stack([dark if one else torch.full_like(dark, -8.0) for one in seen]))
        scores = torch.logit(torch.tensor([list(self.scores)]))
        return torch.stack(rows), scores.expand(len(rows), 3)


@pytest.fixture(scope="session")
def dark_net() -> type[DarkNet]:
    return DarkNet
