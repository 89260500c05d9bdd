"""How large the objects of a class usually are, from those accepted last."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_histosam.store import ObjectStore

_LAST, _ENOUGH = 12, 3
# Sizes that differ by more than about this factor from each other tell nothing of the next one.
_ALIKE = 2.0


def usual_side(store: ObjectStore, class_name: str | None) -> float | None:
    """Return the usual side (root of the area) of a class's objects in level-0 px.

    None while there are few, or where their sizes differ too much, or without a class.
    """
    if class_name is None:
        return None
    rows = store.rows(0, _LAST, "number", descending=True, class_name=class_name)
    logs = [math.log(row.area_px) / 2 for row in rows if row.area_px > 0]
    if len(logs) < _ENOUGH or statistics.pstdev(logs) > math.log(_ALIKE):
        return None
    return math.exp(statistics.median(logs))
