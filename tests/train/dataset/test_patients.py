"""Tables of patients: what is read and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_histosam.errors import InputError
from napari_histosam.train.dataset.patients import patient_of, read_patients

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_table_with_more_columns(tmp_path: Path, mark: str) -> None:
    table = tmp_path / "p.csv"
    rows = [
        ("Stain", "Slide", " patient "),
        ("HE", "a.svs", "Ann"),
        ("", "", ""),
        ("HE", "b", "Bo"),
    ]
    table.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(mark.join(row) for row in rows).encode())
    assert read_patients([str(table), "c=d.svs=Cy"]) == {"a.svs": "Ann", "b": "Bo", "c=d.svs": "Cy"}


def test_a_slide_is_known_by_name_bare_name_or_identity() -> None:
    for key in ("a.ome.tif", "a.ome", "a", "0123"):
        assert patient_of({key: "Ann"}, "a.ome.tif", "0123") == "Ann"
    assert patient_of({"b": "Ann"}, "a.ome.tif", "0123") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slide,case\na,1\n", "no columns slide and patient"),
        ("", "no columns slide and patient"),
        ("slide,patient\na\n", "Line 2 of .* has too few columns"),
        ("slide,patient\na,\n", "Line 2 of .* names no slide or no patient"),
        ("slide,patient\na,1\na,2\n", "Line 3 of .* a second patient"),
        ('slide,patient\n"a,1\n', "broken table"),
        ("slide,patient\na,\xff\n", "no table in UTF-8"),
    ],
)
def test_broken_tables_are_refused(tmp_path: Path, text: str, said: str) -> None:
    table = tmp_path / "p.csv"
    table.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=said):
        read_patients([str(table)])


def test_a_word_that_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a table that is there nor slide=patient"):
        read_patients([str(tmp_path / "none.csv")])
    with pytest.raises(InputError, match="'=Ann' names no slide"):
        read_patients(["=Ann"])
