"""Reads which patches hold tumour and which do not: from data sets, the authors' folders, or a CSV.

Only images and labels are known here. Masks, where there are some beside them, have no path in a
`PatchEntry` and so cannot be opened by what is trained from it.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError
from napari_histosam.train.labelled import Entry, ids_of_splits, index_items

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray

_MEANT = {"tumour": True, "tumor": True, "1": True, "normal": False, "0": False}
_IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class PatchEntry:
    """One labelled patch, not yet read.

    Parameters
    ----------
    name : str
    image : Path
    mpp : float or None
        µm per px of the image, where it is known.
    group : str
        What must not be split: patient or slide; the name where none is given.
    tumour : bool
        Whether the patch holds tumour.
    part : str
        ``"train"``, ``"val"`` or ``"test"`` where the source says so, else empty.
    """

    name: str
    image: Path
    mpp: float | None
    group: str
    tumour: bool
    part: str = ""

    def read(self) -> NDArray[np.uint8]:
        """Return the image, (h, w, 3) RGB.

        Raises
        ------
        InputError
            If it is missing or damaged.
        """
        return Entry(self.name, "", "", self.image, None, self.mpp).read_image()


def patch_entries(folder: Path, splits: Iterable[str] | None = None) -> list[PatchEntry]:
    """Return the labelled patches of a data set, or of the folders of EP-SAM's authors.

    Parameters
    ----------
    folder : Path
        With ``index.json``, whose items that have a ``label`` are taken; or with
        ``{train,val,test}/image/{id}_{label}.png``, where 1 is tumour.
    splits : iterable of str, optional
        Names of splits (there: of folders); None takes all.

    Raises
    ------
    InputError
        If the index, a split or a label cannot be read.
    """
    wanted = None if splits is None else list(splits)
    if is_authors_folder(folder):
        return _of_authors(folder, _PARTS if wanted is None else wanted)
    ids = None if wanted is None else ids_of_splits(folder, wanted)
    where = folder / "index.json"
    found = []
    for item in index_items(folder):
        if not isinstance(item, dict) or item.get("label") is None:
            continue
        try:
            name, image = str(item["id"]), Path(item["image"])
        except (KeyError, TypeError) as error:
            raise InputError(f"{where} has an item without a proper {error}: give it.") from error
        if ids is not None and name not in ids:
            continue
        if image.is_absolute() or ".." in image.parts:
            raise InputError(f"{where} names {image}, which lies outside the folder: mend it.")
        group = str(item.get("group") or item.get("slide") or name)
        told = _meant(item["label"], f"{name} in {where}")
        mpp = _size(item.get("mpp"), f"{name} in {where}")
        found.append(PatchEntry(name, folder / image, mpp, group, told))
    return found


def is_authors_folder(folder: Path) -> bool:
    """Tell whether a folder is laid out as EP-SAM's authors do it."""
    return (folder / "train" / "image").is_dir() and not (folder / "index.json").is_file()


def listed_patches(table: Path) -> list[PatchEntry]:
    """Return the patches that a CSV lists: ``image,label[,group,mpp,split]``.

    Images are paths relative to the file, labels ``tumour``, ``normal``, ``1`` or ``0``; ``split``
    is ``train``, ``val`` or ``test``.

    Raises
    ------
    InputError
        If it cannot be read, lacks a column, or a row makes no sense; the sentence names the row.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table} cannot be read as CSV ({error}): save it as UTF-8.") from error
    found = []
    for number, raw in enumerate(rows, 2):
        row = {(key or "").strip().lower(): (value or "") for key, value in _texts(raw)}
        where = f"row {number} of {table}"
        for column in ("image", "label"):
            if not row.get(column, "").strip():
                raise InputError(
                    f"{where[0].upper()}{where[1:]} has no {column}: the columns are image, label "
                    "and, if you like, group, mpp and split."
                )
        image = table.parent / row["image"].strip()
        part = row.get("split", "").strip().lower()
        if part not in ("", *_PARTS):
            raise InputError(f"The split in {where} is {part!r}: write train, val or test.")
        group = row.get("group", "").strip() or image.stem
        mpp = _size(row.get("mpp", "").strip() or None, where)
        told = _meant(row["label"], where)
        found.append(PatchEntry(image.stem, image, mpp, group, told, part))
    return found


def _texts(row: Mapping[Any, Any]) -> list[tuple[Any, str | None]]:
    # More cells than columns lie in a list under None.
    return [(key, value) for key, value in row.items() if not isinstance(value, list)]


def _of_authors(folder: Path, parts: Iterable[str]) -> list[PatchEntry]:
    found: list[PatchEntry] = []
    for part in parts:
        for image in sorted((folder / part / "image").glob("*")):
            if image.suffix.lower() not in _IMAGES:
                continue
            label = image.stem.rpartition("_")[2]
            told = _meant(label, f"the name of {image} (the last part after _)")
            found.append(PatchEntry(image.stem, image, None, image.stem, told, part))
    if not found:
        raise InputError(f"{folder} holds no patches: put them into train/image and val/image.")
    return found


def _meant(label: Any, where: str) -> bool:
    text = str(label).strip().lower()
    if text not in _MEANT:
        raise InputError(
            f"The label {label!r} of {where} is unknown: write tumour or normal, 1 or 0."
        )
    return _MEANT[text]


def _size(value: Any, where: str) -> float | None:
    if value is None:
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not 0 < found < math.inf:
        raise InputError(f"The mpp {value!r} of {where} is no number above 0: mend or remove it.")
    return found
