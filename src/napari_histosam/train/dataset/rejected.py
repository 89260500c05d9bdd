"""What was rejected on a slide, as lines of ``rejected.jsonl``: a model's mistakes, to be mined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import shapely

from napari_histosam.train.dataset.instances import finite

if TYPE_CHECKING:
    from napari_histosam.train.dataset.sources import SlideSource
    from napari_histosam.train.dataset.splits import Split


def rejections(source: SlideSource, split: Split) -> list[dict[str, Any]]:
    """Return a line per rejected object; none for a test slide, from which nothing is learned.

    Places are in level-0 px, corner based, to two decimals. What is an object again, by an import
    or in another store of the same slide, is left out.

    Parameters
    ----------
    source : SlideSource
    split : {"train", "val", "test"}
    """
    if split == "test":
        return []
    kept = {one.id for one in source.objects}
    found = {one.object.id: one.object for one in source.rejected if one.object.id not in kept}
    return [
        {
            "slide": source.identity,
            "split": split,
            "object": one.id,
            "class": one.class_name,
            "source": one.provenance.source,
            "model": one.provenance.model,
            "weights": one.provenance.weights_hash,
            "score": finite(one.provenance.score),
            "box": [round(float(side), 2) for side in one.geometry.bounds],
            "outline": shapely.to_wkt(one.geometry, rounding_precision=2),
        }
        for one in found.values()
    ]
