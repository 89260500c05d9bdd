"""From the outcomes of single objects to the figures of a set: means, shares, times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_histosam.train.evaluation.instances import average_precision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_histosam.train.evaluation.areas import AreaFigures
    from napari_histosam.train.evaluation.instances import ImageFigures
    from napari_histosam.train.evaluation.protocol import Outcome

# Classes of size by the object's area in px of the image.
SIZES = (120, 500, 5_000, 40_000)
GOOD_IOU = 0.8
# Of offered masks that differ by less, neither is the better one.
_TIE = 0.01


def row(set_name: str, model: str, found: Sequence[Outcome]) -> dict[str, Any]:
    """Return the figures of one model on one set, ready for JSON.

    Parameters
    ----------
    set_name, model : str
    found : sequence of Outcome
        Of one set; at least one.

    Returns
    -------
    dict
        ``iou_*`` are means per object; ``by_source`` and ``by_size`` hold the main ones again for
        each data set of the set and each class of size; times are medians in ms.
    """
    return {
        "set": set_name,
        "model": model,
        "n_objects": len(found),
        **_main(found),
        "iou_click2": _mean(found, lambda o: o.clicks[1]),
        "iou_click_random": _mean(found, lambda o: o.random),
        "iou_click1_best_offered": _mean(found, lambda o: max(o.offered)),
        "box_minus_ellipse": _mean(found, lambda o: o.box - o.ellipse),
        "share_box_good": _mean(found, lambda o: o.box >= GOOD_IOU),
        "first_offered_is_best": _first_is_best(found),
        "score_error_click1": _mean(found, lambda o: abs(o.click_score - o.clicks[0])),
        "score_error_box": _mean(found, lambda o: abs(o.box_score - o.box)),
        "negative_clicks_followed": _followed(found, positive=False),
        "positive_clicks_followed": _followed(found, positive=True),
        "iou_box_uncut": _mean([o for o in found if not o.cut], lambda o: o.box),
        "iou_box_cut": _mean([o for o in found if o.cut], lambda o: o.box),
        "n_cut": sum(o.cut for o in found),
        "encode_ms": _median([ms for o in found for ms in o.encode_ms]),
        "decode_ms": _median([ms for o in found for ms in o.decode_ms]),
        "by_source": _parts(found, lambda o: o.entry.source),
        "by_size": _parts(found, lambda o: size_class(o.area)),
    }


def blank(set_name: str, model: str) -> dict[str, Any]:
    """Return the row of a model that answers no prompts, before `automatic` is added."""
    prompted = ("iou_click1", "iou_click3", "iou_box", "encode_ms", "decode_ms")
    return {"set": set_name, "model": model, "n_objects": 0, **dict.fromkeys(prompted)}


def automatic(found: Sequence[ImageFigures], seconds: Sequence[float]) -> dict[str, Any]:
    """Return the figures of a model that found the objects of a set by itself, ready for JSON.

    Parameters
    ----------
    found : sequence of ImageFigures
        Of each image; at least one.
    seconds : sequence of float
        That each image took.

    Returns
    -------
    dict
        ``ap50`` is of all images together, ``aji``, ``pq``, ``dice`` and the like are means over
        the images; ``n_true`` and ``n_found`` count objects, ``find_ms`` is a median per image.
    """
    hits = [hit for one in found for hit in one.hits]
    n_true = sum(one.n_objects for one in found)
    return {
        "n_true": n_true,
        "n_found": sum(one.n_found for one in found),
        "ap50": round(average_precision(hits, n_true), 4),
        "aji": _mean(found, lambda o: o.aji),
        "pq": _mean(found, lambda o: o.pq),
        "dq": _mean(found, lambda o: o.dq),
        "sq": _mean(found, lambda o: o.sq),
        "dice": _mean(found, lambda o: o.dice),
        "object_dice": _mean(found, lambda o: o.object_dice),
        "find_ms": _median([1e3 * one for one in seconds]),
    }


def areal(
    found: AreaFigures,
    classes: Sequence[str],
    by_source: Mapping[str, AreaFigures],
    seconds: Sequence[float],
) -> dict[str, Any]:
    """Return the figures of a model that told the areas of a set, ready for JSON.

    Parameters
    ----------
    found : AreaFigures
        Of all images; at least one.
    classes : sequence of str
    by_source : mapping of str to AreaFigures
        Of the images from each data set of the set.
    seconds : sequence of float
        That each image took.

    Returns
    -------
    dict
        ``area_dice`` and ``area_iou`` are means over images and classes, ``pixel_auc`` is over all
        px; ``iou_by_class`` and ``dice_by_class`` are over all px together; ``false_area_share`` is
        the mean share of px taken for a class in the ``n_without`` images that show none, and
        ``seconds`` a median per image.
    """
    whole, false = found.whole(), found.false_shares()
    return {
        **_areas(found),
        "iou_by_class": _named(classes, whole.iou[1:].tolist()),
        "dice_by_class": _named(classes, whole.dice[1:].tolist()),
        "n_without": len(false),
        "false_area_share": _mean(false, float),
        "seconds": _median(seconds),
        "areas_by_source": {name: _areas(part) for name, part in by_source.items()},
    }


def size_class(area: int) -> str:
    """Return the class of size of an object, as its limits in px."""
    number = int(np.searchsorted(SIZES, area, side="right"))
    if number == 0:
        return f"< {SIZES[0]:,} px"
    if number == len(SIZES):
        return f">= {SIZES[-1]:,} px"
    return f"{SIZES[number - 1]:,} to {SIZES[number]:,} px"


def _areas(found: AreaFigures) -> dict[str, Any]:
    auc = found.auc()
    return {
        "n_images": found.images,
        "area_dice": round(found.dice(), 4),
        "area_iou": round(found.iou(), 4),
        "pixel_auc": None if auc is None else round(auc, 4),
    }


def _named(classes: Sequence[str], values: Sequence[float]) -> dict[str, float | None]:
    """Return values by class, None for one that was neither there nor found."""
    return {
        name: None if value != value else round(value, 4)
        for name, value in zip(classes, values, strict=True)
    }


def _main(found: Sequence[Outcome]) -> dict[str, float | None]:
    return {
        "iou_click1": _mean(found, lambda o: o.clicks[0]),
        "iou_click3": _mean(found, lambda o: o.clicks[-1]),
        "iou_box": _mean(found, lambda o: o.box),
        "iou_ellipse": _mean(found, lambda o: o.ellipse),
    }


def _parts(found: Sequence[Outcome], key: Callable[[Outcome], str]) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[Outcome]] = {}
    for one in sorted(found, key=lambda o: o.area):
        groups.setdefault(key(one), []).append(one)
    return {name: {"n_objects": len(part), **_main(part)} for name, part in groups.items()}


def _first_is_best(found: Sequence[Outcome]) -> float | None:
    """Return how often the first of several offered masks is the best one, or as good."""
    several = [o.offered for o in found if len(o.offered) > 1]
    return _mean(several, lambda ious: ious[0] >= max(ious) - _TIE)


def _followed(found: Sequence[Outcome], *, positive: bool) -> float | None:
    clicks = [ok for o in found for kind, ok in o.followed if kind == positive]
    return _mean(clicks, bool)


def _mean(items: Sequence[Any], value: Callable[[Any], float]) -> float | None:
    return round(float(np.mean([value(item) for item in items])), 4) if len(items) else None


def _median(values: Sequence[float]) -> float | None:
    return round(float(np.median(values)), 2) if values else None
