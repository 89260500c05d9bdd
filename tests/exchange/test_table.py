"""The CSV of objects: units in the column names, safe in a spreadsheet."""

import csv
from dataclasses import replace

import pytest
from shapely import Point, box

from napari_histosam.errors import InputError
from napari_histosam.exchange.options import ExportContext
from napari_histosam.exchange.table import plain_text, safe_text, write_table
from napari_histosam.records import Provenance, SlideObject


def rows(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_um_by_anisotropic_mpp(tmp_path, plain):
    path = tmp_path / "t.csv"
    report = write_table([plain], path, ExportContext(mpp=(0.25, 0.5)))
    (row,) = rows(path)
    assert report.warnings == ()
    assert float(row["area_um2"]) == 30 * 40 * 0.125
    assert float(row["perimeter_um"]) == 2 * (30 * 0.25 + 40 * 0.5)
    assert (float(row["centroid_x_um"]), float(row["centroid_y_um"])) == (6.25, 20)
    assert (row["centroid_x_px"], row["centroid_y_px"]) == ("25", "40")
    assert [row[f"bbox_{k}_px"] for k in ("left", "top", "right", "bottom")] == [
        "10", "20", "40", "60",
    ]  # fmt: skip
    assert row["source"] == "manual"
    assert row["created"] == plain.created


def test_without_mpp_columns_say_px(tmp_path, plain):
    path = tmp_path / "t.csv"
    report = write_table([plain], path)
    (row,) = rows(path)
    assert not any("um" in name.split("_") or name.endswith("um2") for name in row)
    assert (row["area_px2"], row["perimeter_px"]) == ("1200", "140")
    assert "no mpp" in report.warnings[0]


def test_excel_sees_utf8(tmp_path, prompted):
    path = tmp_path / "t.csv"
    write_table([prompted], path)
    assert path.read_bytes()[:3] == b"\xef\xbb\xbf"
    (row,) = rows(path)
    assert (row["name"], row["author"], row["score"]) == ("gland Ω 1", "Dr. Żółć", "0.93")
    assert row["class"] == "Tumour: Positive"


@pytest.mark.parametrize(
    "text", ["=1+1", "+x", "-2", "@SUM(A1)", "\tx", "\rx", "=cmd|' /C calc'!A0"]
)
def test_formulas_are_quoted(tmp_path, plain, text):
    path = tmp_path / "t.csv"
    evil = replace(
        plain, name=text, class_name=text, provenance=Provenance(author=text, model=text)
    )
    write_table([evil], path)
    (row,) = rows(path)
    assert all(row[name].startswith("'") for name in ("name", "class", "author", "model"))
    assert plain_text(safe_text(text)) == text


def test_commas_quotes_and_odd_text(tmp_path, plain):
    path = tmp_path / "t.csv"
    write_table([replace(plain, name='a, "b"\nc \ud800')], path)
    assert rows(path)[0]["name"] == 'a, "b"\nc ?'


def test_points_have_a_place_and_no_area(tmp_path):
    path = tmp_path / "t.csv"
    write_table([SlideObject(geometry=Point(3.5, 4)), SlideObject(geometry=box(0, 0, 0, 0))], path)
    a, _ = rows(path)
    assert (a["centroid_x_px"], a["area_px2"]) == ("3.5", "0")


def test_whole_or_not_at_all(tmp_path, failing_disk, plain):
    path = tmp_path / "t.csv"
    path.write_text("old")
    failing_disk(28)
    with pytest.raises(InputError, match="full"):
        write_table([plain], path)
    assert path.read_text() == "old"
