"""A painted slide, a model that sees its objects, and an owner's thread that is run by hand."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from napari_histosam import Session, open_slide
from napari_histosam.errors import InputError
from napari_histosam.models.cards import ModelCard
from napari_histosam.models.protocols import Candidates, Embedding
from napari_histosam.slide.open import open_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROMPTS = ("point", "negative", "box", "scribble", "mask")


class Seer:
    """A prompt model that finds dark things on a light slide, and notes what it is asked."""

    def __init__(self, name: str = "seer", prompts=PROMPTS, window_px: int = 256, mpp=None) -> None:
        self.card = ModelCard(name, "seer", "Sees", "BSD-3-Clause", prompts, window_px, mpp)
        self.weights_hash = f"hash of {name}"
        self.device = "cpu"
        self.encoded: list[tuple[int, ...]] = []
        self.decoded: list[tuple[list, bool]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.error: BaseException | None = None
        self.say: Callable[[str], None] = lambda _sentence: None

    def encode(self, images) -> Embedding:
        (image,) = images
        self.encoded.append(image.shape)
        return Embedding({"dark": (image[..., 0] < 128).astype(np.uint8)}, image.shape[1::-1])

    def decode(self, embedding, objects, *, multimask=True) -> list[Candidates]:
        self.decoded.append((list(objects), multimask))
        self.entered.set()
        assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        return [self._one(embedding.arrays["dark"], one, multimask) for one in objects]

    def _one(self, dark, asked, multimask: bool) -> Candidates:
        _, labels = cv2.connectedComponents(dark)
        height, width = dark.shape
        mask = np.zeros(dark.shape, bool)
        if asked.mask is not None:
            mask |= asked.mask
        elif asked.box is not None:
            left, top, right, bottom = (round(float(v)) for v in asked.box)
            mask[max(top, 0) : bottom, max(left, 0) : right] = True
            mask &= dark.astype(bool)
        if asked.points is not None:
            at = np.clip(np.floor(asked.points).astype(int), 0, [width - 1, height - 1])
            for (x, y), label in zip(at, asked.labels, strict=True):
                if labels[y, x]:
                    mask[labels == labels[y, x]] = label == 1
        masks = [mask, cv2.dilate(mask.astype(np.uint8), np.ones((5, 5))) > 0, dark > 0]
        count = 3 if multimask else 1
        logits = np.stack(
            [np.full((8, 8), 10.0 * len(self.decoded) + k, np.float32) for k in range(count)]
        )
        return Candidates(np.stack(masks[:count]), np.array([0.9, 0.7, 0.4])[:count], logits)


class Shelf:
    """A registry of loaded models."""

    def __init__(self, *models: Seer) -> None:
        self.models = {m.card.name: m for m in models}
        self.missing: set[str] = set()
        self.gates: dict[str, threading.Event] = {}
        self.told: list[str] = []
        self.loading: list[str] = []

    def get(self, name: str) -> ModelCard:
        if name not in self.models:
            raise InputError(f"No model is called {name!r}.")
        return self.models[name].card

    def load(self, name, device="auto", files=None, say=None):
        self.loading.append(name)
        if name in self.gates:
            assert self.gates[name].wait(20)
        if name in self.missing:
            raise InputError(f"The weights of {name} are not on this machine.")
        model = self.models[name]
        model.say = say
        for sentence in self.told:
            say(sentence)
        return model


class Mailbox:
    """A dispatcher whose owner empties it by hand, as a window's event loop would."""

    def __init__(self) -> None:
        self.calls: queue.Queue[Callable[[], None]] = queue.Queue()

    def call(self, func: Callable[[], None]) -> None:
        self.calls.put(func)

    def later(self, seconds: float, func: Callable[[], None]) -> None:
        self.calls.put(func)

    def deliver(self) -> None:
        """Run what has come so far."""
        while not self.calls.empty():
            self.calls.get()()

    def run_until(self, done: Callable[[], bool], seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, "nothing came"
            try:
                self.calls.get(timeout=0.05)()
            except queue.Empty:
                continue


@dataclass
class Heard:
    """What a session said."""

    failed: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    previews: list[object] = field(default_factory=list)
    models: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, session: Session) -> Heard:
        heard = cls()
        session.failed.connect(heard.failed.append)
        session.said.connect(heard.said.append)
        session.busy_changed.connect(heard.busy.append)
        session.preview_changed.connect(heard.previews.append)
        session.model_changed.connect(lambda card: heard.models.append(card.name))
        return heard


def paint(width: int, height: int, *discs: tuple[float, float, float]) -> np.ndarray:
    """A light picture with dark discs (x, y, radius)."""
    image = np.full((height, width, 3), 235, np.uint8)
    for x, y, r in discs:
        cv2.circle(image, (round(x), round(y)), round(r), (60, 40, 110), -1)
    return image


# Two small things side by side, one that lies on a window's border, one larger than a window,
# one at the slide's corner, and one that is a pixel.
SMALL, NEAR, BORDER, LARGE = (300, 300, 20), (360, 300, 16), (600, 128, 40), (900, 800, 220)
CORNER, DOT = (0, 1190, 30), (100, 600, 0)


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    image = paint(1400, 1200, SMALL, NEAR, BORDER, LARGE, CORNER)
    image[600, 100] = (60, 40, 110)
    return image


@pytest.fixture
def slide(picture):
    with open_array([picture], None, "painted") as opened:
        yield opened


@pytest.fixture
def sample(sample_slide_path):
    with open_slide(sample_slide_path) as opened:
        yield opened


@pytest.fixture
def seer() -> Seer:
    return Seer()


@pytest.fixture
def shelf(seer) -> Shelf:
    return Shelf(seer)


@pytest.fixture
def session(slide, shelf) -> Iterator[Session]:
    with Session(slide, model="seer", registry=shelf, author="Ada") as made:
        yield made


@pytest.fixture
def box() -> Mailbox:
    return Mailbox()


@pytest.fixture
def threaded(slide, shelf, box) -> Iterator[Session]:
    """A session whose model runs on a thread, loaded."""
    made = Session(slide, model="seer", registry=shelf, dispatcher=box)
    box.run_until(lambda: made.settled)
    yield made
    for model in shelf.models.values():
        model.gate.set()
    made.close()


@pytest.fixture
def helpers():
    """What tests build for themselves."""

    class Helpers:
        seer = Seer
        shelf = Shelf
        heard = Heard.of
        paint = staticmethod(paint)
        small, near, border, large, corner, dot = SMALL, NEAR, BORDER, LARGE, CORNER, DOT

    return Helpers
