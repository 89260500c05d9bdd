"""How EP-SAM's networks want a patch: its channels' order, and the frame that points count in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from napari_histosam.errors import InputError
from napari_histosam.models.ep_sam.cam import PROFILES, Profile
from napari_histosam.models.prompts import check_image
from napari_histosam.models.sam.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_histosam.models.cards import ModelCard

Channels = Literal["rgb", "bgr"]
Points = Literal["patch", "sam"]
_WHITE = 255


@dataclass(frozen=True)
class Recipe:
    """How a pair of classifier and decoder was made, read from a card's ``recipe``.

    The authors' own files saw pictures with red and blue exchanged, and points in px of the patch
    where SAM expects those of its square; files that are made here have neither quirk.

    Parameters
    ----------
    channel_order : {"rgb", "bgr"}
    points_frame : {"patch", "sam"}
    profile : Profile
        From ``cam_profile``, a name of `PROFILES`, and ``percentile`` in place of its own.
    gate : float
        The least probability of tumour at which a patch is looked at closely.
    """

    channel_order: Channels = "rgb"
    points_frame: Points = "sam"
    profile: Profile = PROFILES["camelyon16"]
    gate: float = 0.5

    @classmethod
    def of(cls, card: ModelCard) -> Recipe:
        """Read it from a card.

        Raises
        ------
        InputError
            If the card says something that is not known.
        """
        said: Mapping[str, Any] = card.recipe
        order = _one_of(card, "channel_order", "rgb", get_args(Channels))
        frame = _one_of(card, "points_frame", "sam", get_args(Points))
        profile = PROFILES[_one_of(card, "cam_profile", "camelyon16", tuple(PROFILES))]
        numbers = {
            "percentile": said.get("percentile", profile.percentile),
            "gate": said.get("gate", cls.gate),
        }
        for name, most in (("percentile", 100), ("gate", 1)):
            value = numbers[name]
            if not isinstance(value, (int, float)) or not 0 <= value <= most:
                raise InputError(
                    f"The card of {card.name} says {value!r} for {name}, which must be 0 to "
                    f"{most}: repair or remove it."
                )
        profile = replace(profile, percentile=float(numbers["percentile"]))
        return cls(order, frame, profile, float(numbers["gate"]))  # type: ignore[arg-type]

    def ordered(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return an RGB picture (h, w, 3) with its channels as the networks want them."""
        return image if self.channel_order == "rgb" else np.ascontiguousarray(image[..., ::-1])

    def at(self, points: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.float32]:
        """Return points (k, 2), px of a patch of ``size`` (height, width), as SAM gets them."""
        if self.points_frame == "patch":
            return points.astype(np.float32)
        return Frame(size[::-1]).points(points.astype(np.float64) + 0.5)


def square(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return a window (h, w, 3) as a square patch; what it lacks becomes white.

    Raises
    ------
    InputError
        If it is no RGB picture or larger than the patch.
    """
    check_image(image)
    height, width = image.shape[:2]
    if max(height, width) > side:
        raise InputError(
            f"A window of {width} x {height} px is too large: EP-SAM sees patches of {side} px, so "
            "cut it into tiles."
        )
    if (height, width) == (side, side):
        return image
    out = np.full((side, side, 3), _WHITE, np.uint8)
    out[:height, :width] = image
    return out


def classifier_input(image: NDArray[np.uint8]) -> Tensor:
    """Return (3, h, w) float32 of 0 to 1 of a patch in the networks' channel order."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float() / _WHITE


def _one_of(card: ModelCard, name: str, default: str, known: tuple[str, ...]) -> str:
    value = card.recipe.get(name, default)
    if value not in known:
        raise InputError(
            f"The card of {card.name} says {value!r} for {name}, which must be one of "
            f"{', '.join(known)}: repair or remove it."
        )
    return str(value)
