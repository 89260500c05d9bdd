"""Maps of regions: a model's probabilities over a part of a slide, and the areas made of them."""

from napari_histosam.session.regions.areas import (
    Area,
    Areas,
    ClassMasks,
    Share,
    areas,
    estimate,
    px_size,
)
from napari_histosam.session.regions.objects import objects_of, picked
from napari_histosam.session.regions.region_map import RegionMap, about_folder
from napari_histosam.session.regions.request import (
    AreaSettings,
    RegionOutcome,
    RegionRequest,
    check_regions,
    plan_regions,
    region_key,
    usual_settings,
)
from napari_histosam.session.regions.running import map_regions

__all__ = [
    "Area",
    "AreaSettings",
    "Areas",
    "ClassMasks",
    "RegionMap",
    "RegionOutcome",
    "RegionRequest",
    "Share",
    "about_folder",
    "areas",
    "check_regions",
    "estimate",
    "map_regions",
    "objects_of",
    "picked",
    "plan_regions",
    "px_size",
    "region_key",
    "usual_settings",
]
