"""What shall be built into a data set, and how: the frozen requests of the builder."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_histosam.errors import InputError
from napari_histosam.slide.units import MAX_MPP, MIN_MPP

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

OBJECT_PX = (36.0, 300.0)
"""Window px, least and most, of an object's longer side where no model says what it likes."""


@dataclass(frozen=True)
class Annotated:
    """A slide and the annotation file that belongs to it (GeoJSON or a label image)."""

    slide: Path
    annotations: Path


@dataclass(frozen=True)
class Settings:
    """How windows are cut and slides are split.

    Parameters
    ----------
    size : int
        Side of a window in px.
    mpp : float, optional
        µm per window px. None: chosen so that the objects get a fitting size.
    object_px : (float, float)
        Window px, least and most, that an object's longer side should have where ``mpp`` is None.
    model : str, optional
        The model whose card gave ``mpp`` or ``object_px``; for the record.
    background : float
        Windows without objects, cut from fully labelled regions, per window with objects.
    val, test : float
        Shares of the slides (or patients) for validation and test, 0 to below 1 together.
    seed : int
        Of the split and of the choice of background windows.
    licence : str
        A note on who may do what with the images; written into the manifest.
    region_classes : tuple of str
        Classes that mark fully labelled regions, besides the usual names (`kinds.role_of`).
    automatic : bool
        Whether a model's automatic objects that nobody accepted or corrected are taken as truth.
    reviewed_only : bool
        Whether only objects that were accepted or corrected in a review are taken as truth.
    refreeze : bool
        Whether the test set that stands in the folder is made anew.

    Raises
    ------
    InputError
        If a value is out of its range.
    """

    size: int = 512
    mpp: float | None = None
    object_px: tuple[float, float] = OBJECT_PX
    model: str | None = None
    background: float = 0.25
    val: float = 0.15
    test: float = 0.15
    seed: int = 0
    licence: str = ""
    region_classes: tuple[str, ...] = ()
    automatic: bool = False
    reviewed_only: bool = False
    refreeze: bool = False

    def __post_init__(self) -> None:
        if not 64 <= self.size <= 4096:
            raise InputError(f"A window of {self.size} px is not possible; take 64 to 4096.")
        if self.mpp is not None and not MIN_MPP <= self.mpp <= MAX_MPP:
            raise InputError(
                f"{self.mpp} µm per px is not possible; give {MIN_MPP} to {MAX_MPP:.0f}, "
                "for example 0.25."
            )
        if not 0 < self.object_px[0] <= self.object_px[1] < math.inf:
            raise InputError(f"Objects of {self.object_px} px are not possible; give least, most.")
        if not 0 <= self.background <= 10:
            raise InputError(
                f"{self.background} background windows per window with objects are not possible; "
                "give 0 to 10."
            )
        if not (self.val >= 0 and self.test >= 0 and self.val + self.test < 1):
            raise InputError(
                f"The shares {self.val} for validation and {self.test} for test leave nothing to "
                "train on, or are negative; give shares that add up to less than 1."
            )
        if self.seed < 0:
            raise InputError("The seed must not be negative.")


@dataclass(frozen=True)
class Request:
    """A data set to build.

    Parameters
    ----------
    out : Path
        The set's folder; made if it is absent, brought up to date if it holds such a set.
    stores : tuple of Path
        Stores, slides whose store is known, or folders that hold stores.
    annotated : tuple of Annotated
        Slides with annotation files of their own.
    look_in : tuple of Path
        Slides, or folders of slides, for stores that do not lie beside theirs.
    patients : mapping of str to str
        Slide (file name, name without suffix, or identity) → patient; see `patients`.
    settings : Settings
    """

    out: Path
    stores: tuple[Path, ...] = ()
    annotated: tuple[Annotated, ...] = ()
    look_in: tuple[Path, ...] = ()
    patients: Mapping[str, str] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
