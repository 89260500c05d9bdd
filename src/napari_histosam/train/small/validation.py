"""Quick figures during training: IoU per object at a known scale, without the session's windows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from napari_histosam.train.simulate import deepest_point, jittered, tight_box
from napari_histosam.train.small import stain
from napari_histosam.train.small.prompting import Asked, batch_of, correct
from napari_histosam.train.small.warp import blurred, warped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_histosam.models.small.network import SmallNet
    from napari_histosam.train.small.pool import Picture

SIDE = 112
"""Net px of a validation crop."""

_PER_PICTURE = 2
_CLICK_SIDE, _BOX_SIDE = 34.0, 56.0


@torch.no_grad()
def validate(net: SmallNet, pictures: Sequence[Picture], device: str = "cpu") -> dict[str, float]:
    """Return mean IoU at 1 click, 3 clicks and by box, and the error of the predicted IoU.

    Up to two objects of each picture, chosen by a fixed seed, each at the scale that suits it.
    Those that the crop's scale leaves no px of (hairs, rings) are passed over.
    """
    rng = np.random.default_rng(0)
    click1, click3, box, errors = [], [], [], []
    for picture in pictures:
        count = min(_PER_PICTURE, len(picture.numbers))
        for index in rng.choice(len(picture.numbers), count, replace=False):
            image, truth, area = _centred(picture, int(index), _CLICK_SIDE, boxed=False, rng=rng)
            boxed, whole, size = _centred(picture, int(index), _BOX_SIDE, boxed=True, rng=rng)
            tight = tight_box(whole)
            if tight is None or not truth.any():
                continue
            asked = Asked(truth, [deepest_point(truth)], [1])
            found = list(_clicks(net, image, asked, area, 3, device))
            click1.append(found[0][0])
            click3.append(found[-1][0])
            asked = Asked(whole, box=jittered(tight, 0.05, rng))
            iou, score = next(_clicks(net, boxed, asked, size, 1, device))
            box.append(iou)
            errors += [abs(found[0][0] - found[0][1]), abs(iou - score)]
    if not click1:
        return dict.fromkeys(("val_click1", "val_click3", "val_box", "val_score_error"), math.nan)
    return {
        "val_click1": float(np.mean(click1)),
        "val_click3": float(np.mean(click3)),
        "val_box": float(np.mean(box)),
        "val_score_error": float(np.mean(errors)),
    }


def _centred(
    picture: Picture, index: int, side: float, *, boxed: bool, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], float]:
    left, top, right, bottom = (int(v) for v in picture.bounds[index])
    size = max(right - left, bottom - top) if boxed else math.sqrt(float(picture.areas[index]))
    zoom = side / size
    middle = (SIDE - 1) / 2
    matrix = np.array(
        [
            [zoom, 0, middle - zoom * (left + right - 1) / 2],
            [0, zoom, middle - zoom * (top + bottom - 1) / 2],
        ]
    )
    source = picture.image.astype(np.float32)
    part = (picture.labels == picture.numbers[index]).astype(np.float32)
    if zoom < 1:
        source, part = (blurred(a, 0.4 / zoom).astype(np.float32) for a in (source, part))
    fill = (0, 0, 0) if picture.fluorescent else (240, 240, 240)
    image = warped(source, matrix, SIDE, fill=fill).astype(np.uint8)
    if picture.fluorescent:
        image = stain.like_haematoxylin(image, rng)
    truth = warped(part, matrix, SIDE) > 0.5
    return image, truth, max(float(picture.areas[index]) * zoom**2, float(truth.sum()))


def _clicks(
    net: SmallNet,
    image: NDArray[np.uint8],
    asked: Asked,
    area: float,
    turns: int,
    device: str,
) -> Iterator[tuple[float, float]]:
    """Yield IoU and predicted IoU after each prompt."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float().to(device) / 255
    features = net.encode(pixels.contiguous(memory_format=torch.channels_last))
    for turn in range(turns):
        logits, scores = net.decode(features, batch_of([asked], device))
        best = int(scores[0].argmax()) if asked.ambiguous else 0
        chosen = logits[0, best].float()
        full = nn.functional.interpolate(chosen[None, None], scale_factor=2.0, mode="bilinear")
        mask = (full[0, 0] > 0).cpu().numpy()
        common = float((mask & asked.truth).sum())
        yield common / max(area + mask.sum() - common, 1), float(scores[0, best].sigmoid())
        asked.previous = chosen.sigmoid().cpu().numpy()
        if turn + 1 < turns and not correct(asked, mask):
            yield common / max(area + mask.sum() - common, 1), float(scores[0, best].sigmoid())
            return
