"""Automatic runs: a model over a view, a drawn region or a whole slide, tile by tile."""

from napari_histosam.session.automate.plan import Tile, TilePlan, plan_tiles
from napari_histosam.session.automate.request import AutomateRequest, Outcome, check_automatic
from napari_histosam.session.automate.running import automate, key_for

__all__ = [
    "AutomateRequest",
    "Outcome",
    "Tile",
    "TilePlan",
    "automate",
    "check_automatic",
    "key_for",
    "plan_tiles",
]
