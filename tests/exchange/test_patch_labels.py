"""Patch labels in files: what is written is read as the same, what is wrong is said by its line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from napari_histosam.errors import InputError
from napari_histosam.exchange.options import ExportContext
from napari_histosam.exchange.patch_labels import (
    cells_of_regions,
    kind_of,
    read_patch_labels,
    write_patch_labels,
)
from napari_histosam.geometry.grid import PatchGrid
from napari_histosam.records import PatchLabel

if TYPE_CHECKING:
    from pathlib import Path

SIZE = (2000, 1600)
GRID = PatchGrid.of(SIZE, (0.499, 0.251), 64.0)
CONTEXT = ExportContext(mpp=(0.499, 0.251), size=SIZE, slide_name="=evil, slide.svs")


def from_text(folder: Path, text: str, grid: PatchGrid = GRID, name: str = "a.svs"):
    path = folder / "labels.csv"
    path.write_text(text, "utf-8")
    return read_patch_labels(path, grid, ExportContext(size=SIZE, slide_name=name))


@given(
    st.sets(st.tuples(st.integers(0, GRID.columns - 1), st.integers(0, GRID.rows - 1)), min_size=1),
    st.booleans(),
)
def test_what_is_written_is_read_as_the_same(tmp_path_factory, cells, square) -> None:
    grid = PatchGrid.of(SIZE, None, 128.0) if square else GRID
    path = tmp_path_factory.getbasetemp() / "round.csv"
    labels = [
        PatchLabel(*grid.box(*cell), ("tumour", "normal")[sum(cell) % 2], "-Ada", "2026-01-01")
        for cell in sorted(cells)
        if grid.holds(*cell)
    ]
    if not labels:
        return
    assert write_patch_labels(labels, path, CONTEXT.slide_name) == len(labels)
    assert path.read_text().splitlines()[0].count("height") == (not square)
    found = read_patch_labels(path, grid, CONTEXT)
    assert list(found.labels) == labels
    assert found.notes == ()


def test_tables_of_others(tmp_path: Path) -> None:
    found = from_text(
        tmp_path,
        "\ufeffSlide;X;Y;Size;Label;Score\na;0;0;128;1;0.9\nA.SVS;128;0;128;Normal;\nb;0;0;128;0;\n"
        ";256;0;128;Metastasis;\n;9000;0;128;tumor;\n\n",
    )
    assert [(one.x, one.label) for one in found.labels] == [
        (0.0, "tumour"),
        (128.0, "normal"),
        (256.0, "tumour"),
    ]
    assert found.notes == (
        "1 rows of other slides were left out.",
        "1 patches outside of the slide were left out.",
    )
    grid = PatchGrid.of(SIZE, None, 100.0)
    (one,) = from_text(tmp_path, "column,row,label\n3,4,benign\n", grid).labels
    assert (one.x, one.y, one.width, one.label) == (300.0, 400.0, 100.0, "normal")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x,y,label\n1,2,tumour\n", "has to name the columns"),
        ("x,y,size,label\n1,2,3,perhaps\n", "Line 2 of labels.csv has the label 'perhaps'"),
        ("x,y,size,label\n1,2,3,1\n\n1,2,3,0\n", "Line 4 .* a second label"),
        ("x,y,size,label\n1,2\n", "Line 2 .* too few columns"),
        ("x,y,size,label\n1,nan,3,1\n", "needs numbers for x, y, size"),
        ("x,y,size,label\n1,2,0,1\n", "without a size"),
        ("column,row,label\n1,999,1\n", "which the grid of .* does not have"),
        ("column,row,label\n1.5,2,1\n", "does not have"),
        ("slide,x,y,size,label\nb,1,2,3,1\n", "no label for a.svs: 1 rows are of other slides"),
        ("x,y,size,label\n-900,2,3,1\n", "1 patches lie outside"),
        ("x,y,size,label\n", "it has no rows"),
        ('x,y,size,label\n1,2,3,"1\n', "broken table"),
    ],
)
def test_what_is_wrong_is_said_by_its_line(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        from_text(tmp_path, text)


def test_other_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        read_patch_labels(tmp_path / "none.csv", GRID, CONTEXT)
    (tmp_path / "labels.csv").write_bytes(b"x,y,size,label\n\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        read_patch_labels(tmp_path / "labels.csv", GRID, CONTEXT)
    with pytest.raises(InputError, match="nowhere"):
        write_patch_labels([], tmp_path / "nowhere" / "a.csv", "a")


def regions(path: Path, *shapes: tuple[shapely.Polygon, str]) -> Path:
    features = [
        {
            "type": "Feature",
            "geometry": shapely.geometry.mapping(shape),
            "properties": {"classification": {"name": name}},
        }
        for shape, name in shapes
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_outlines_label_the_patches_whose_middle_they_hold(tmp_path: Path) -> None:
    grid = PatchGrid.of(SIZE, None, 100.0)
    path = regions(
        tmp_path / "a.geojson",
        (shapely.box(0, 0, 260, 100), "Normal"),
        (shapely.box(120, 0, 400, 100), "Tumor"),
        (shapely.box(0, 500, 100, 600), "Necrosis"),
    )
    found = read_patch_labels(path, grid, CONTEXT)
    assert [(one.x, one.y, one.label) for one in found.labels] == [
        (0, 0, "normal"),
        (100, 0, "tumour"),  # both lie there
        (200, 0, "tumour"),
        (300, 0, "tumour"),
    ]
    assert found.notes == ("Outlines that are neither tumour nor normal were left out (Necrosis).",)
    found = read_patch_labels(path, grid, CONTEXT, classes={"Necrosis": "normal"})
    assert len(found.labels) == 5
    with pytest.raises(InputError, match="but Gland; say which"):
        read_patch_labels(
            regions(tmp_path / "b.geojson", (shapely.box(0, 0, 500, 500), "Gland")), grid, CONTEXT
        )
    with pytest.raises(InputError, match="choose smaller patches"):
        read_patch_labels(
            regions(tmp_path / "c.geojson", (shapely.box(0, 0, 40, 40), "tumour")), grid, CONTEXT
        )


@given(
    st.lists(
        st.tuples(
            st.tuples(st.integers(0, 900), st.integers(0, 700)),
            st.tuples(st.integers(1, 600), st.integers(1, 600)),
            st.sampled_from(["tumour", "normal"]),
        ),
        max_size=4,
    )
)
def test_a_patch_in_a_tumour_is_tumour_in_a_normal_region_alone_normal(boxes) -> None:
    grid = PatchGrid((70.0, 90.0), (1000, 800))
    shapes = [(shapely.box(x, y, x + w, y + h), kind) for (x, y), (w, h), kind in boxes]
    found = {grid.at(*one.middle): one.label for one in cells_of_regions(grid, shapes)}
    for column in range(grid.columns):
        for row in range(grid.rows):
            at = shapely.Point(grid.middle(column, row))
            kinds = {kind for shape, kind in shapes if shape.contains(at)}
            wanted = "tumour" if "tumour" in kinds else "normal" if kinds else None
            assert found.get((column, row)) == wanted


def test_names_of_classes() -> None:
    assert kind_of("Tumor") == kind_of(" tumour ") == kind_of("Metastases") == "tumour"
    assert kind_of("non_tumor") == kind_of("Benign") == "normal"
    assert kind_of("Gland") is kind_of(None) is None
