"""Reads the data set that stands in the folder already: what is kept, and what is frozen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from napari_histosam.errors import InputError
from napari_histosam.train.dataset.folder import INDEX, MANIFEST, OBJECTS
from napari_histosam.train.dataset.splits import Placed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

FORMAT, VERSION = "histosam-dataset", 1


@dataclass(frozen=True)
class Earlier:
    """A data set as it stands.

    Parameters
    ----------
    manifest : mapping
        As read.
    items : tuple of dict
        Of ``index.json``.
    lines : mapping of str to list of dict
        Image id → its lines of ``objects.jsonl``.
    """

    manifest: Mapping[str, Any]
    items: tuple[dict[str, Any], ...]
    lines: Mapping[str, list[dict[str, Any]]]

    @property
    def files(self) -> dict[str, str]:
        """File → SHA-256."""
        return dict(self.manifest["files"])

    @property
    def seed(self) -> int:
        """Of the split."""
        return int(self.manifest["settings"]["seed"])

    @property
    def classes(self) -> dict[str, int]:
        """Class name → id."""
        return dict(self.manifest["classes"])

    @property
    def scale(self) -> tuple[float | None, float | None, str]:
        """µm per window px, level-0 px per window px on slides without µm, and why."""
        told = self.manifest["scale"]
        return told["mpp"], told["px"], told["why"]

    @property
    def slides(self) -> dict[str, dict[str, Any]]:
        """Identity → what the manifest says of a slide."""
        return {one["identity"]: one for one in self.manifest["slides"]}

    def placed(self, *, refreeze: bool) -> dict[str, Placed]:
        """Return where all slides are that ever were in the folder.

        With ``refreeze`` those are left out that only a frozen test set kept from joining it.
        """
        return {
            key: Placed(one["split"], one["why"])
            for key, one in self.manifest["placed"].items()
            if not (refreeze and one["why"] == "frozen")
        }

    def frozen(self) -> dict[str, dict[str, Any]]:
        """Return the slides of the test set by identity."""
        return {key: one for key, one in self.slides.items() if one["split"] == "test"}

    def items_of(self, identity: str) -> list[dict[str, Any]]:
        """Return the windows of one slide."""
        return [item for item in self.items if item["slide"] == identity]

    def class_names(self, identity: str) -> list[str | None]:
        """Return the classes of the objects in the windows of one slide, again and again."""
        return [
            line["class"]
            for item in self.items_of(identity)
            for line in self.lines.get(item["id"], ())
        ]


def read_earlier(out: Path) -> Earlier | None:
    """Return the data set in a folder, or None if there is none.

    Raises
    ------
    InputError
        If it is damaged, or of a later version.
    """
    path = out / MANIFEST
    if not path.is_file():
        return None
    manifest = _json(path)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(f"{path} is not of a data set of this kind; name another folder.")
    if manifest.get("version") != VERSION:
        raise InputError(
            f"{out} was built by another version (format {manifest.get('version')}, this one "
            f"writes {VERSION}); name a new folder."
        )
    index = _json(out / INDEX)
    lines: dict[str, list[dict[str, Any]]] = {}
    try:
        for line in _lines(out / OBJECTS):
            lines.setdefault(line["image"], []).append(line)
        found = Earlier(manifest, tuple(index["items"]), lines)
        # Everything that is asked of it later on.
        _ = found.files, found.seed, found.classes, found.scale, found.placed(refreeze=False)
        _ = [found.items_of(key) for key in found.slides]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"The data set in {out} is damaged ({error!r}); restore it or name a new folder."
        ) from error
    return found


def labels_of(out: Path, item: Mapping[str, Any]) -> NDArray[np.uint16]:
    """Read the labels of a window that is kept.

    Raises
    ------
    InputError
        If they are missing or damaged.
    """
    path = out / item["mask"]
    data = np.fromfile(path, np.uint8) if path.is_file() else np.empty(0, np.uint8)
    labels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if labels is None or labels.shape != (item["height"], item["width"]):
        raise InputError(f"{path} of the test set is missing or damaged; {_MEND}")
    return np.asarray(labels, np.uint16)


_MEND = "restore it, or make the test set anew with --refreeze."


def refuse_damage(out: Path, name: str) -> InputError:
    """Return the error for a file of the test set that is not as it was."""
    return InputError(f"{out / name} of the test set is missing or was changed; {_MEND}")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): restore it.") from error
    for row in text.split("\n"):  # other line breaks may stand in names
        if row:
            yield json.loads(row)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}): restore it or name a new folder."
        ) from error
