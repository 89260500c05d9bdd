"""Pages of the object table equal sorting and filtering in plain Python."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from napari_histosam.errors import InputError
from napari_histosam.records import Provenance

if TYPE_CHECKING:
    from napari_histosam.store import ObjectStore

KEYS = {
    "number": lambda row: row.number,
    "class": lambda row: row.class_name or "",
    "area": lambda row: row.area_px,
    "score": lambda row: -1 if row.score is None else row.score,
    "source": lambda row: row.source,
    "modified": lambda row: row.modified,
    "name": lambda row: row.name or "",
}


@pytest.fixture
def filled(store: ObjectStore, make) -> ObjectStore:
    draw = random.Random(1)
    items = [
        make(
            draw.uniform(0, 100),
            draw.uniform(0, 100),
            draw.choice([5, 6, 7.5]),
            class_name=draw.choice([None, "Tumor", "Stroma", "100%_sure"]),
            name=draw.choice([None, "a_b", "axb"]),
            modified=f"2026-01-{draw.randint(1, 9):02d}",
            provenance=Provenance(
                source=draw.choice(["manual", "automatic"]), score=draw.choice([None, 0.25, 0.5])
            ),
        )
        for _ in range(200)
    ]
    store.add(items)
    store.delete([item.id for item in items[::7]])
    return store


FILTERS = [
    {},
    {"class_name": "Tumor"},
    {"class_name": None, "source": "automatic"},
    {"text": "TUM"},
    {"text": "a_b"},
    {"text": "100%_"},
    {"text": "nothing like it"},
    {"class_name": "absent"},
]


@pytest.mark.parametrize("order_by", list(KEYS))
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_pages_positions_and_totals(filled: ObjectStore, order_by, descending, filters) -> None:
    rows = filled.rows(0, 10_000)

    def kept(row) -> bool:
        words = (row.id, row.name, row.class_name, row.source, row.object_type)
        return (
            filters.get("class_name", row.class_name) == row.class_name
            and filters.get("source", row.source) == row.source
            and any(filters.get("text", "").lower() in (word or "").lower() for word in words)
        )

    expected = sorted(
        filter(kept, rows), key=lambda row: (KEYS[order_by](row), row.number), reverse=descending
    )
    found = []
    while page := filled.rows(len(found), 30, order_by, descending, **filters):
        found += page
    assert found == expected
    assert filled.row_count(**filters) == len(expected)
    for i, row in enumerate(expected[::9]):
        assert filled.position_of(row.id, order_by, descending, **filters) == 9 * i
    left_out = {row.id for row in rows} - {row.id for row in expected}
    for key in [*sorted(left_out)[:3], "no such id"]:
        assert filled.position_of(key, order_by, descending, **filters) is None


def test_a_row_tells_what_the_object_is(store: ObjectStore, make) -> None:
    item = make(10, 20, 4, class_name="Tumor", locked=True, object_type="cell")
    store.add([item])
    (row,) = store.rows()
    assert (row.id, row.number, row.class_name, row.locked) == (item.id, 1, "Tumor", True)
    assert (row.area_px, row.centroid, row.bounds) == (16, (12, 22), (10, 20, 14, 24))
    assert (row.source, row.score, row.object_type) == ("manual", None, "cell")
    assert row.modified == item.modified


def test_an_unknown_order_is_refused(store: ObjectStore) -> None:
    with pytest.raises(InputError, match="cannot be sorted"):
        store.rows(order_by="size; DROP TABLE objects")  # type: ignore[arg-type]


@pytest.mark.parametrize("order_by", list(KEYS))
def test_sorting_walks_an_index(store: ObjectStore, order_by) -> None:
    """No page of any order sorts the whole table."""
    seen: list[str] = []
    with store._db.read() as con:
        con.set_trace_callback(seen.append)
    for descending in (False, True):
        store.rows(5, 10, order_by, descending)
    with store._db.read() as con:
        con.set_trace_callback(None)
        for sql in [text for text in seen if "ORDER BY" in text]:
            plan = " ".join(row["detail"] for row in con.execute(f"EXPLAIN QUERY PLAN {sql}"))
            assert "TEMP B-TREE" not in plan, plan
        assert sum("ORDER BY" in text for text in seen) == 2
