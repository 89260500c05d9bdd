"""What a run over regions is asked for, what came of it, and which models can do it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError
from napari_histosam.session.automate.plan import key_of, plan_tiles

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from shapely.geometry.base import BaseGeometry

    from napari_histosam.models.automatic import RegionModel
    from napari_histosam.models.cards import ModelCard
    from napari_histosam.session.automate.plan import TilePlan
    from napari_histosam.slide import Slide

# A window with a smaller share of tissue is left out.
LEAST_TISSUE = 0.05


@dataclass(frozen=True)
class RegionRequest:
    """A run of a model that maps regions.

    Parameters
    ----------
    plan : TilePlan
        Of `plan_regions`.
    least_tissue : float
        Windows with a smaller share of tissue (0 to 1) are left out; 0 looks at all.
    """

    plan: TilePlan
    least_tissue: float = LEAST_TISSUE

    def describe(self) -> dict[str, Any]:
        """Return all that decides the map, as JSON values."""
        return {"plan": self.plan.describe(), "least_tissue": self.least_tissue}


@dataclass(frozen=True)
class RegionOutcome:
    """What came of a run.

    Parameters
    ----------
    folder : Path
        The map, see `RegionMap`.
    finished : bool
        False if it was stopped; started again with the same request, it goes on.
    tiles, tiles_done : int
        With tissue in them, and looked at.
    resumed : bool
        Whether tiles were done already.
    seconds : float
        Of this part of the run, without pauses.
    """

    folder: Path
    finished: bool
    tiles: int
    tiles_done: int
    resumed: bool
    seconds: float

    @property
    def text(self) -> str:
        """What to tell the user, in a sentence."""
        if not self.tiles:
            return "There is only glass here, so nothing was looked at and the map is empty."
        tiles = f"{self.tiles:,} tile{'' if self.tiles == 1 else 's'}"
        if not self.finished:
            return (
                f"Stopped after {self.tiles_done:,} of {tiles}: the map so far is kept; start "
                "again with the same settings to go on."
            )
        return f"The map is complete ({tiles})."


def plan_regions(
    slide: Slide,
    card: ModelCard,
    region: BaseGeometry | None = None,
    *,
    shift: tuple[int, int] = (0, 0),
) -> TilePlan:
    """Lay the windows of a region model: each steps on by three quarters of itself.

    Arguments and errors as of `napari_histosam.session.automate.plan_tiles`.
    """
    return plan_tiles(slide, card, region, shift=shift, least_margin=0)


def region_key(slide: Slide, model: RegionModel, request: RegionRequest) -> str:
    """Return a hash of all that decides a map; a run that was stopped is known by it."""
    return key_of(slide, model.card.name, model.weights_hash, request.describe())


def check_regions(card: ModelCard, cards: Iterable[ModelCard] = ()) -> None:
    """Refuse in one sentence a model that maps no regions; arguments as `check_automatic`."""
    if card.finds == "regions":
        return
    able = ", ".join(other.name for other in cards if other.finds == "regions")
    instead = f": choose one that does ({able})." if able else "."
    raise InputError(f"{card.name} maps no regions of tissue{instead}")


@dataclass(frozen=True)
class AreaSettings:
    """How areas are made of a map.

    Parameters
    ----------
    threshold : float
        The probability (0 to 1) from which on a px belongs to a class.
    smooth_um : float, optional
        Nests and gaps narrower than this go; None leaves the outlines as they are.
    least_um2 : float
        Smaller areas are left out.
    """

    threshold: float = 0.5
    smooth_um: float | None = None
    least_um2: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise InputError("The threshold of areas must lie above 0 and be at most 1.")
        if self.smooth_um is not None and not 0 <= self.smooth_um <= 10_000:
            raise InputError("Areas are smoothed by 0 to 10,000 µm, or not at all.")
        if not (self.least_um2 >= 0 and math.isfinite(self.least_um2)):
            raise InputError("The least size of areas must be 0 µm² or more.")


# What is smaller than a disc 50 µm wide is no area to report.
LEAST_UM2 = 2000.0


def usual_settings(card: ModelCard) -> AreaSettings:
    """Return what a model's authors do: SAM-Lung's round off by 71 of its px, others do not."""
    from napari_histosam.models.sam_lung.post import SIDE

    smooth = SIDE * card.mpp if card.decoder == "sam-lung" and card.mpp else None
    return AreaSettings(smooth_um=smooth, least_um2=LEAST_UM2)
