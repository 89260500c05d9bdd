"""Reads which slide is of which patient: from tables, or from words ``slide=patient``."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from napari_histosam.train.dataset.sources import SlideSource

SETTING = "patient"
"""Under which a store keeps its slide's patient; the user sets it in the *Learn* tab."""


def read_patients(words: Iterable[str]) -> dict[str, str]:
    """Return slide → patient.

    Parameters
    ----------
    words : iterable of str
        Each the path of a CSV table with the columns ``slide`` and ``patient`` (comma, semicolon
        or tab; more columns do no harm), or ``slide=patient``. A slide is named by its file
        name, its name without suffix, or its identity.

    Raises
    ------
    InputError
        If a word is neither, a table cannot be read, or a slide has two patients.
    """
    found: dict[str, str] = {}
    for word in words:
        path = Path(word)
        if path.is_file():
            pairs = _rows(path)
        elif "=" in word:
            slide, _, patient = word.rpartition("=")
            pairs = iter([(slide.strip(), patient.strip(), f"{word!r}")])
        else:
            raise InputError(
                f"{word} is neither a table that is there nor slide=patient; check --patients."
            )
        for slide, patient, where in pairs:
            if not slide or not patient:
                raise InputError(f"{where} names no slide or no patient; fill in both.")
            if found.setdefault(slide, patient) != patient:
                raise InputError(
                    f"{where} gives the slide {slide} a second patient; a slide has one."
                )
    return found


def patient_of(patients: Mapping[str, str], name: str, identity: str) -> str | None:
    """Return the patient of a slide by its file name, its bare name or its identity, or None."""
    bare = name.partition(".")[0]
    return next(
        (patients[key] for key in (identity, name, Path(name).stem, bare) if key in patients), None
    )


def patients_of(patients: Mapping[str, str], sources: Iterable[SlideSource]) -> dict[str, str]:
    """Return slide → patient with what the stores say of slides that ``patients`` does not name."""
    found = dict(patients)
    for one in sources:
        if one.patient and patient_of(patients, one.name, one.identity) is None:
            found[one.identity] = one.patient
    return found


def _rows(path: Path) -> Iterator[tuple[str, str, str]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check it.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no table in UTF-8; save it as CSV with UTF-8.") from error
    first = text.partition("\n")[0]
    mark = max(",;\t", key=first.count)
    try:
        table = csv.reader(io.StringIO(text), delimiter=mark, strict=True)
        head = [title.strip().casefold() for title in next(table, [])]
        if not {"slide", "patient"} <= set(head):
            raise InputError(
                f"{path} has no columns slide and patient in its first line; add that line."
            )
        at_slide, at_patient = head.index("slide"), head.index("patient")
        for row in table:
            if not any(cell.strip() for cell in row):
                continue
            where = f"Line {table.line_num} of {path}"
            if len(row) <= max(at_slide, at_patient):
                raise InputError(f"{where} has too few columns; fill in slide and patient.")
            yield row[at_slide].strip(), row[at_patient].strip(), where
    except csv.Error as error:
        raise InputError(f"{path} is a broken table ({error}); save it as CSV again.") from error
