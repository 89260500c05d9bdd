"""Reads the patch labels that are kept for slides, and where the slides' pixels are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_histosam.errors import InputError
from napari_histosam.exchange.files import explained
from napari_histosam.geometry.grid import PatchGrid
from napari_histosam.slide import open_slide
from napari_histosam.train.dataset.patients import SETTING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari_histosam.records import PatchLabel


@dataclass(frozen=True)
class PatchSource:
    """One slide and the labels of its patches.

    Parameters
    ----------
    identity, name : str
    path : Path
        Of the slide.
    size : tuple of int
        Width and height of level 0.
    mpp : tuple of float or None
        µm per level-0 px.
    labels : tuple of PatchLabel
        Of all sizes.
    patient : str
        Empty where the slide stands for itself.
    """

    identity: str
    name: str
    path: Path
    size: tuple[int, int]
    mpp: tuple[float, float] | None
    labels: tuple[PatchLabel, ...]
    patient: str = ""

    def grid(self, side: float) -> PatchGrid:
        """Return the slide's grid: a cell's side in µm, or in level-0 px where mpp is unknown."""
        return PatchGrid.of(self.size, self.mpp, side)

    def sized(self, side: float) -> list[PatchLabel]:
        """Return the labels of patches of one size; see `grid`."""
        from napari_histosam.store.patches import alike

        width, height = self.grid(side).side
        return [p for p in self.labels if alike(p.width, width) and alike(p.height, height)]

    def count(self, side: float) -> Counter[str]:
        """Return how many patches of one size are tumour, and how many normal."""
        return Counter(one.label for one in self.sized(side))


def read_patch_source(path: Path) -> PatchSource | None:
    """Return a slide's patch labels; None where nothing is kept for it.

    Raises
    ------
    InputError
        If the slide or its store cannot be read.
    """
    from napari_histosam.home import home
    from napari_histosam.store import ObjectStore, PatchBook, store_path
    from napari_histosam.store.places import beside

    path = Path(path).expanduser()
    with explained(path, "read"):
        if not path.exists():
            raise InputError(f"There is no {path}; name a slide.")
    with open_slide(path) as slide:
        where = store_path(path.absolute(), slide.identity, home())
        if not where.is_file():
            where = beside(path)  # in a folder that may not be written
        if not where.is_file():
            return None
        with ObjectStore.open(where, slide_identity=slide.identity) as store:
            return PatchSource(
                identity=slide.identity,
                name=slide.name,
                path=path,
                size=(slide.width, slide.height),
                mpp=slide.mpp,
                labels=tuple(PatchBook(store).all()),
                patient=str(store.setting(SETTING, "") or "").strip(),
            )


def read_patch_sources(
    paths: Iterable[Path], step: Callable[[str], None] = lambda name: None
) -> list[PatchSource]:
    """Return the labels of several slides, in the order of their identities.

    Raises
    ------
    InputError
        If one cannot be read, or has no labels.
    """
    found: dict[str, PatchSource] = {}
    for path in paths:
        step(Path(path).name)
        one = read_patch_source(path)
        if one is None or not one.labels:
            raise InputError(
                f"No patch of {path} is labelled: label some in the tab Learn, or import them with "
                "histosam patches --import."
            )
        found[one.identity] = one
    return [found[key] for key in sorted(found)]
