"""How well a model finds the objects of held-out windows: average precision, and overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_histosam.models.automatic import Detections
    from napari_histosam.models.window_trainable import FindsObjects, WindowTruth
    from napari_histosam.train.windowed.kept import Known

# From this IoU on, an object counts as found.
FOUND = 0.5
T = TypeVar("T")


def overlaps(found: Detections, truth: WindowTruth) -> NDArray[np.float64]:
    """Return the IoU (n, k) of n found objects and k true ones.

    By masks where an object has an outline, else by boxes.
    """
    out = box_overlaps(found.boxes, truth.boxes)
    for column, mask in enumerate(truth.masks or ()):
        if mask is None:
            continue
        area = int(mask.sum())
        for row, (own, (x, y)) in enumerate(zip(found.masks, found.corners, strict=True)):
            part = mask[y : y + own.shape[0], x : x + own.shape[1]]
            common = int((part & own).sum())
            out[row, column] = common / max(area + int(own.sum()) - common, 1)
    return out


def box_overlaps(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the IoU (n, k) of boxes (n, 4) and (k, 4)."""
    corner = np.maximum(first[:, None, :2], second[None, :, :2])
    size = (np.minimum(first[:, None, 2:], second[None, :, 2:]) - corner).clip(0)
    common = size.prod(2)
    areas = [(b[:, 2:] - b[:, :2]).prod(1) for b in (first, second)]
    return np.asarray(common / np.maximum(areas[0][:, None] + areas[1][None] - common, 1e-9))


class Tally:
    """Adds up windows: a `Judge` of what was found as objects."""

    def __init__(self) -> None:
        self._hits: list[tuple[float, bool]] = []
        self._best: list[float] = []

    @classmethod
    def of(cls, several: Sequence[Tally]) -> Tally:
        """Return several together."""
        out = cls()
        for one in several:
            out._hits += one._hits
            out._best += one._best
        return out

    @property
    def count(self) -> int:
        """How many true objects there were."""
        return len(self._best)

    def add(self, model: Any, known: Known) -> None:
        """Have a model find the objects of a window, and match them."""
        image = known.seen.images[0]
        size = image.shape[1], image.shape[0]
        truth = known.look.truth
        outlined = truth.masks is not None
        self.match(cast("FindsObjects", model).found(known.look.kept, size, outlined), truth)

    def score(self) -> dict[str, float]:
        """Return AP50, by which a model is judged, and the mean IoU."""
        return {"ap50": self.ap50(), "iou": self.iou()}

    def match(self, found: Detections, truth: WindowTruth) -> None:
        """Match the objects of a window: the most certain first, each true one once.

        A find of which more than half lies where nothing is known counts for nothing.
        """
        iou = overlaps(found, truth)
        best = np.zeros(len(truth.boxes))
        for row in np.argsort(-found.scores, kind="stable"):
            free = np.where(best > 0, 0.0, iou[row]) if iou.shape[1] else np.zeros(1)
            which = int(free.argmax())
            hit = bool(free[which] >= FOUND)
            if hit:
                best[which] = free[which]
            elif truth.ignore is not None and _unknown(found.boxes[row], truth.ignore) > 0.5:
                continue
            self._hits.append((float(found.scores[row]), hit))
        self._best += best.tolist()

    def ap50(self) -> float:
        """Return the average precision at an IoU of 0.5: the area under precision over recall."""
        if not self._best:
            return 0.0
        order = sorted(self._hits, key=lambda one: -one[0])
        good = np.cumsum([hit for _, hit in order])
        precision = good / np.arange(1, len(order) + 1)
        best = np.maximum.accumulate(precision[::-1])[::-1]
        steps = np.array([hit for _, hit in order], bool)
        return float(best[steps].sum() / len(self._best)) if len(order) else 0.0

    def iou(self) -> float:
        """Return the mean IoU of true objects with what was found of them, 0 where nothing was."""
        return float(np.mean(self._best)) if self._best else 0.0


def spread(items: Sequence[T], most: int) -> list[T]:
    """Return at most so many items, spread evenly."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def _unknown(box: NDArray[np.float64], ignore: NDArray[np.bool_]) -> float:
    left, top, right, bottom = (max(round(value), 0) for value in box)
    part = ignore[top : max(bottom, top + 1), left : max(right, left + 1)]
    return float(part.mean()) if part.size else 0.0
