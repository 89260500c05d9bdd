"""Heat maps and pseudo-masks of the positive patches, on disk, with what speaks for each.

``pseudo/heat/NAME.png``      the heat map's cells, 8 bit, one for every 16 px of the patch
``pseudo/heat/tumour.json``   what the classifier says of each patch, 0 to 1
``pseudo/initial/NAME.png``   the heat map's mask, 0 and 255, what the decoder learns from first
``pseudo/N/NAME.png``         the decoder's answers after its stage N (0 comes before the rounds)
``pseudo/*/pseudo.json``      of ``initial`` and each N: for each patch its image, probability,
                              agreement (IDS), and whether it is learned from

All are made of the patch as it is, neither turned nor coloured, and lie over it px by px.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from napari_histosam.errors import InputError
from napari_histosam.models.ep_sam.cam import Heat
from napari_histosam.models.ep_sam.points import agreement
from napari_histosam.models.files import write_bytes_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_histosam.models.ep_sam.cam import Profile
    from napari_histosam.train.patchwise.labels import PatchEntry

HEAT, INITIAL = "heat", "initial"
NOT_WARM = "no activation"
APART = "below agreement"
_SAID = "tumour.json"


@dataclass(frozen=True)
class Judged:
    """What is known of one patch's pseudo-mask, ready for JSON.

    Parameters
    ----------
    name, image : str
        The mask is ``NAME.png`` beside it; the image's path.
    tumour : float
        What the classifier says, 0 to 1.
    warm, area : float
        The shares of the patch that the heat map's mask and the pseudo-mask cover.
    ids : float
        The share of the pseudo-mask that is warm.
    kept : bool
        Whether it is learned from.
    why : str
        Else why not.
    """

    name: str
    image: str
    tumour: float
    warm: float
    area: float
    ids: float
    kept: bool
    why: str = ""


class Shelf:
    """The folder ``pseudo`` of a run.

    Parameters
    ----------
    folder : Path
        Of the run.
    side : int
        Of a patch, px.
    """

    def __init__(self, folder: Path, side: int) -> None:
        self._root, self._size = folder / "pseudo", (side, side)

    def heat(self, entry: PatchEntry) -> Heat | None:
        """Return a patch's heat map, or None if it is not there yet."""
        cells = _picture(self._root / HEAT / f"{entry.name}.png")
        return None if cells is None else Heat(cells, self._size)

    def keep_heat(self, entry: PatchEntry, heat: Heat) -> None:
        """Write a patch's heat map."""
        _write(self._root / HEAT / f"{entry.name}.png", heat.cells)

    def mask(self, where: str, entry: PatchEntry) -> NDArray[np.bool_]:
        """Return a patch's mask, (side, side).

        Raises
        ------
        InputError
            If it was removed.
        """
        path = self._root / where / f"{entry.name}.png"
        found = _picture(path)
        if found is None:
            raise InputError(f"{path} is missing: remove last.pt beside it to begin again.")
        return found > 0

    def keep_mask(self, where: str, entry: PatchEntry, mask: NDArray[np.bool_]) -> None:
        """Write a patch's mask."""
        _write(self._root / where / f"{entry.name}.png", (mask * 255).astype(np.uint8))

    def tumour(self) -> dict[str, float]:
        """Return what the classifier says of patches whose heat maps were made, by name."""
        try:
            told = json.loads((self._root / HEAT / _SAID).read_text("utf-8"))
            return {str(name): float(value) for name, value in told.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def keep_tumour(self, known: Mapping[str, float]) -> None:
        """Write what `tumour` returns."""
        write_bytes_atomic(self._root / HEAT / _SAID, json.dumps(dict(known), indent=1).encode())

    def write_list(self, where: str, found: Sequence[Judged], **about: float | str | None) -> None:
        """Write ``pseudo.json`` of a folder: whatever is said about it, and its patches."""
        told = {**about, "patches": [asdict(one) for one in found]}
        text = json.dumps(told, indent=1).encode()
        write_bytes_atomic(self._root / where / "pseudo.json", text)

    def read_list(self, where: str) -> list[Judged] | None:
        """Return the patches of a folder, or None if it is not complete."""
        try:
            told = json.loads((self._root / where / "pseudo.json").read_text("utf-8"))
            return [Judged(**one) for one in told["patches"]]
        except (OSError, ValueError, KeyError, TypeError):
            return None


def initial_masks(
    shelf: Shelf, learned: Mapping[PatchEntry, float], profile: Profile
) -> list[Judged]:
    """Write the heat maps' masks of positive patches; return what is known of each.

    Parameters
    ----------
    shelf : Shelf
        With the heat maps.
    learned : mapping of PatchEntry to float
        Positive patches, and what the classifier says of them.
    profile : Profile
    """
    found = []
    for entry, tumour in learned.items():
        heat = shelf.heat(entry)
        assert heat is not None  # made before
        warm = heat.mask(profile)
        shelf.keep_mask(INITIAL, entry, warm)
        any_warm = bool(warm.any())
        found.append(_judged(entry, tumour, warm, warm, any_warm))
    shelf.write_list(INITIAL, found, percentile=profile.percentile)
    return found


def pseudo_masks(
    shelf: Shelf,
    where: str,
    learned: Mapping[PatchEntry, float],
    answer: Callable[[PatchEntry, Heat], tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    least: float,
    goes_on: Callable[[int], bool] = lambda _: True,
) -> list[Judged] | None:
    """Write the decoder's answers to positive patches; return what is known of each.

    Parameters
    ----------
    shelf : Shelf
        With the heat maps.
    where : str
        The folder.
    learned : mapping of PatchEntry to float
        As `initial_masks`.
    answer : callable of (PatchEntry, Heat) -> (warm, mask)
        The heat map's mask and the decoder's, (side, side) each.
    least : float
        An answer is learned from if so much of it is warm.
    goes_on : callable of int -> bool
        Is told how many are done; says whether to go on. Else None is returned.
    """
    found = []
    for entry, tumour in learned.items():
        heat = shelf.heat(entry)
        assert heat is not None
        warm, mask = answer(entry, heat)
        shelf.keep_mask(where, entry, mask)
        kept = bool(mask.any()) and agreement(warm, mask) >= least
        found.append(_judged(entry, tumour, warm, mask, kept))
        if not goes_on(len(found)):
            return None
    shelf.write_list(where, found, agreement=least)
    return found


def _judged(
    entry: PatchEntry,
    tumour: float,
    warm: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    kept: bool,
) -> Judged:
    return Judged(
        name=entry.name,
        image=str(entry.image),
        tumour=tumour,
        warm=float(warm.mean()),
        area=float(mask.mean()),
        ids=agreement(warm, mask),
        kept=kept,
        why="" if kept else APART if warm.any() else NOT_WARM,
    )


def _picture(path: Path) -> NDArray[np.uint8] | None:
    try:
        data = np.fromfile(path, np.uint8)
    except OSError:
        return None
    found = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if data.size else None
    return None if found is None else np.asarray(found, np.uint8)


def _write(path: Path, picture: NDArray[np.uint8]) -> None:
    done, data = cv2.imencode(".png", picture)
    assert done
    write_bytes_atomic(path, data.tobytes())
