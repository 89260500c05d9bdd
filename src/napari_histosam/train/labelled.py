"""Reads folders of images with instance masks: ``images/``, ``masks/``, ``index.json``, splits."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from napari_histosam.errors import InputError
from napari_histosam.train.boxes import boxes_of
from napari_histosam.train.recorded import Records, records

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from napari_histosam.train.boxes import Boxed
    from napari_histosam.train.recorded import Recorded


@dataclass(frozen=True)
class Entry:
    """One image of a set, not yet read.

    Parameters
    ----------
    name, set_name : str
    source : str
        Which data set it comes from, as the first part of its name says.
    image : Path
    mask : Path or None
        None for an image of which only boxes are known.
    mpp : float or None
    group : str
        What must not be split: patient, slide or source image. The name where none is given.
    classes : mapping of str to str
        Class of each label, as text; ``"*"`` stands for all that are not named.
    homes : frozenset of int or None
        Labels of the objects to be counted here, where overlapping images show others again; None
        for all.
    recorded : mapping of int to Recorded
        What is known of how an object was made, by its label.
    boxes : tuple of Boxed, optional
        Where they are listed and were asked for.
    ignore : Path, optional
        8-bit map, not 0 where it is not known whether there are objects.
    """

    name: str
    set_name: str
    source: str
    image: Path
    mask: Path | None
    mpp: float | None
    group: str = ""
    classes: Mapping[str, str] = field(default_factory=dict, hash=False)
    homes: frozenset[int] | None = None
    recorded: Mapping[int, Recorded] = field(default_factory=dict, hash=False)
    boxes: tuple[Boxed, ...] | None = None
    ignore: Path | None = None

    def class_of(self, label: int) -> str | None:
        """Return the class of an object, or None where it has none."""
        return self.classes.get(str(label), self.classes.get("*"))

    def read(self) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Return the image (h, w, 3) and its labels (h, w), 0 for background.

        Raises
        ------
        InputError
            If a file is missing, damaged, or the two differ in size.
        """
        image = self.read_image()
        if self.mask is None:
            raise InputError(f"{self.name} of {self.set_name} has boxes and no mask: draw one.")
        labels = _pixels(self.mask, cv2.IMREAD_UNCHANGED)
        if labels is None:
            raise InputError(f"{self.mask} is missing or no image: restore it.")
        if labels.ndim != 2 or labels.shape != image.shape[:2]:
            raise InputError(
                f"{self.mask} is {labels.shape} and its image {image.shape[:2]}: a mask has one "
                "channel and the size of its image."
            )
        return image, labels.astype(np.int32)

    def read_image(self) -> NDArray[np.uint8]:
        """Return the image (h, w, 3) alone; see `read`."""
        image = _pixels(self.image, cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise InputError(f"{self.image} is missing or no image: restore it.")
        return np.asarray(image, np.uint8)

    def read_ignore(self) -> NDArray[np.bool_] | None:
        """Return where it is not known whether there are objects, (h, w), or None; see `read`."""
        if self.ignore is None:
            return None
        found = _pixels(self.ignore, cv2.IMREAD_GRAYSCALE)
        if found is None:
            raise InputError(f"{self.ignore} is missing or no image: restore it.")
        return found > 0


def find_sets(root: Path) -> list[Path]:
    """Return the set folders under a folder, or the folder itself if it is one.

    Raises
    ------
    InputError
        If there is none.
    """
    if (root / "index.json").is_file():
        return [root.resolve()]  # "." has no name, and splits.json lies beside it
    found = sorted(path.parent for path in root.resolve().glob("*/index.json"))
    if not found:
        raise InputError(
            f"{root} holds no data set: give a folder with images/, masks/ and index.json, or one "
            "that holds such folders."
        )
    return found


def entries(
    folder: Path, splits: Iterable[str] | None = None, *, boxes: bool = False
) -> list[Entry]:
    """Return the images of one set that have instance masks.

    Parameters
    ----------
    folder : Path
        With ``index.json``; ``splits.json`` lies in it or beside it.
    splits : iterable of str, optional
        Names of splits; None takes all that are not for training (all images where there are no
        splits).
    boxes : bool
        Also those that have boxes only, and the boxes and unknown parts of all.

    Raises
    ------
    InputError
        If the index or a split cannot be read.
    """
    items = _json(folder / "index.json")
    items = items.get("items", []) if isinstance(items, dict) else items
    wanted = _wanted(folder, None if splits is None else list(splits))
    known = records(folder)
    listed = boxes_of(folder, items) if boxes else {}
    try:
        return [
            Entry(
                name=str(item["id"]),
                set_name=folder.name,
                source=str(item["id"]).split("_")[0],
                image=folder / _inside(item["image"]),
                mask=folder / _inside(item["mask"]) if "mask" in item else None,
                mpp=_mpp(item.get("mpp")),
                group=str(item.get("group") or item.get("slide") or item["id"]),
                classes=_classes(item),
                boxes=listed.get(str(item["id"])),
                ignore=folder / _inside(item["ignore"]) if boxes and "ignore" in item else None,
                **_known(known, str(item["id"])),
            )
            for item in items
            if ("mask" in item or str(item["id"]) in listed)
            and item.get("mask_kind", "instance") == "instance"
            and (wanted is None or str(item["id"]) in wanted)
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{folder / 'index.json'} has an item without a proper {error}: each needs id, image "
            "and mask."
        ) from error


def read_all(found: Iterable[Entry]) -> Iterator[tuple[Entry, NDArray[np.uint8], NDArray[Any]]]:
    """Yield each image with its labels."""
    for entry in found:
        yield entry, *entry.read()


def split_names(folder: Path) -> list[str]:
    """Return the names of the splits of a set, none where it has no splits.

    Raises
    ------
    InputError
        If ``splits.json`` cannot be read.
    """
    _, listed = _listed(folder)
    return [] if listed is None else list(listed)


def splits_file(folder: Path) -> Path | None:
    """Return ``splits.json`` of a set, which lies in its folder or beside it, or None."""
    places = (folder / "splits.json", folder.parent / "splits.json")
    return next((place for place in places if place.is_file()), None)


def index_items(folder: Path) -> list[Any]:
    """Return the items of ``index.json`` as they are.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    items = _json(folder / "index.json")
    items = items.get("items", []) if isinstance(items, dict) else items
    if not isinstance(items, list):
        raise InputError(f"{folder / 'index.json'} lists no items: restore it.")
    return items


def ids_of_splits(folder: Path, splits: Iterable[str]) -> set[str]:
    """Return the ids of all items in some splits of a set.

    Raises
    ------
    InputError
        If the set has no such split.
    """
    return _wanted(folder, list(splits)) or set()


def _listed(folder: Path) -> tuple[Path | None, dict[str, Any] | None]:
    path = splits_file(folder)
    data = {} if path is None else _json(path)
    sets = data.get("sets", data) if isinstance(data, dict) else None
    listed = sets.get(folder.name) if isinstance(sets, dict) else None
    own = path == folder / "splits.json"
    if listed is None and isinstance(sets, dict) and len(sets) == 1 and own:
        # The folder was renamed after its splits were written into it; without them, images for
        # training would be measured, too.
        listed = next(iter(sets.values()))
    return path, listed if isinstance(listed, dict) else None


def _known(known: dict[str, Records] | None, name: str) -> dict[str, Any]:
    if known is None:
        return {}
    here = known.get(name, Records())
    return {"homes": frozenset(here.homes), "recorded": here.objects}


def _classes(item: dict[str, Any]) -> dict[str, str]:
    """Return the class of each label: from ``classes``, and from ``objects`` where listed."""
    named = item.get("classes") or {}
    given = named.items() if isinstance(named, dict) else ()
    found = {str(k): str(v) for k, v in given if v is not None}
    for one in item.get("objects") or ():
        if one.get("class") is not None:
            found[str(int(one["label"]))] = str(one["class"])
    return found


def _wanted(folder: Path, splits: list[str] | None) -> set[str] | None:
    path, listed = _listed(folder)
    if listed is None:
        if splits:
            raise InputError(f"{folder} has no splits, so no split {splits[0]}: leave it away.")
        return None
    if splits is None:
        splits = [name for name in listed if "train" not in name]
    for name in splits:
        if name not in listed:
            raise InputError(
                f"{path} has no split {name} of {folder.name}, but {', '.join(listed)}."
            )
        if not isinstance(listed[name], list):
            raise InputError(f"{path}: the split {name} of {folder.name} must list names.")
    return {str(key) for name in splits for key in listed[name]}


def _pixels(path: Path, how: int) -> NDArray[Any] | None:
    """Return an image, or None if it is not there or none.

    Not by OpenCV's own reading: that speaks on stderr and knows no Unicode paths on Windows.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError:
        return None
    return cv2.imdecode(data, how) if data.size else None


def _mpp(value: Any) -> float | None:
    if value is None:
        return None
    mpp = float(value)
    if not 0 < mpp < math.inf:
        raise ValueError(f"mpp: {value} is no size")
    return mpp


def _inside(name: str) -> Path:
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"image: {name} lies outside the folder")
    return path


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): restore it.") from error
