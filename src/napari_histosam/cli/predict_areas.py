"""The part of ``histosam predict`` for models that map regions: a map, and the areas made of it."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable, Sequence

    from napari_histosam.cli.predict import Order
    from napari_histosam.models.cards import ModelCard
    from napari_histosam.records import Prompt
    from napari_histosam.session.regions import AreaSettings, RegionOutcome
    from napari_histosam.slide import Slide

SUFFIX = ".ome.zarr"
_OPTIONS = {"map": "--map", "threshold": "--threshold", "smooth_um": "--smooth-um"}
_OPTIONS |= {"least_um2": "--least-um2", "pick": "--pick"}


def add_areas_to(made: ArgumentParser) -> None:
    """Declare the options of models that map regions."""
    group = made.add_argument_group("for models that map regions (sam-lung, ep-sam)")
    group.add_argument(
        "--map", type=Path, metavar="DIR", help="keep each slide's map as DIR/SLIDE.ome.zarr"
    )
    group.add_argument(
        "--threshold", type=float, metavar="T", help="probability of an area's px (default 0.5)"
    )
    group.add_argument(
        "--smooth-um",
        metavar="S",
        help="nests and gaps narrower than S µm go, or off (default: as the model's authors do)",
    )
    group.add_argument(
        "--least-um2", type=float, metavar="A", help="leave out smaller areas (default 2000 µm²)"
    )
    group.add_argument(
        "--pick",
        type=Path,
        metavar="P.geojson",
        help="keep only areas that these points and boxes touch, none that negative ones do",
    )


def check_objects(args: Namespace, card: ModelCard, cards: Iterable[ModelCard]) -> None:
    """Refuse a model that finds no objects, and options that are for regions only."""
    from napari_histosam.session.automate import check_automatic

    check_automatic(card, () if card.finds else cards)
    for name, option in _OPTIONS.items():
        if getattr(args, name) is not None:
            raise InputError(f"{option} is for models that map regions; {card.name} finds objects.")


def settings_of(args: Namespace, card: ModelCard) -> AreaSettings:
    """Return how areas are made, by the options and else as is usual for the model."""
    from napari_histosam.session.regions import usual_settings

    if args.score:
        raise InputError(f"--score is for models that find objects; for {card.name}: --threshold.")
    settings = usual_settings(card)
    if args.threshold is not None:
        settings = replace(settings, threshold=args.threshold)
    if args.least_um2 is not None:
        settings = replace(settings, least_um2=args.least_um2)
    if args.smooth_um is not None:
        settings = replace(settings, smooth_um=_smooth(args.smooth_um))
    return settings


def picks_of(args: Namespace) -> list[Prompt]:
    """Return the prompts that choose among areas; none where all are kept."""
    from napari_histosam.exchange import read_prompts

    if args.pick is None:
        return []
    if len(args.slides) > 1:
        raise InputError("--pick names places of one slide: give one slide at a time.")
    return read_prompts(args.pick)


def one_map(slide: Slide, out: Path, order: Order) -> dict[str, Any]:
    """Map one slide, write its areas, and return its row of the result."""
    from napari_histosam.cli.predict import NO_SCALE
    from napari_histosam.exchange import write
    from napari_histosam.session.handover import context_of
    from napari_histosam.session.regions import RegionMap, areas, objects_of, picked
    from napari_histosam.store import ObjectStore

    assert order.settings is not None
    start = time.perf_counter()
    folder, outcome = _mapped(slide, out, order)
    found = RegionMap(folder)
    made = areas(found, order.settings)
    made = replace(made, areas=tuple(picked(made.areas, order.picks)))
    with ObjectStore.open(None) as store:  # gives the classes their colours
        objects = objects_of(made, found, class_name=order.class_name)
        store.add(objects)
        report = write(
            iter(objects),
            out,
            slide_info=context_of(slide, store.classes()),
            options=order.options,
        )
    shares = {
        name: {"um2": share.um2, "fraction": share.fraction} for name, share in made.shares.items()
    }
    row = {
        "slide": slide.name,
        "objects": report.n,
        "areas": shares,
        "tissue_um2": made.tissue_um2,
        "tissue_px": made.tissue_px,
        "seconds": round(time.perf_counter() - start, 3),
        "out": str(out),
        "tiles": outcome.tiles,
        "resumed": outcome.resumed,
        "text": f"{outcome.text} {_in_words(report.n, shares)}",
        "warnings": [*([] if slide.mpp is not None else [NO_SCALE]), *report.warnings],
    }
    return row if order.maps is None else {**row, "map": str(folder)}


def areas_together(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return each class's area and share of the tissue over all slides."""
    tissue = sum(row["tissue_px"] for row in rows)
    together: dict[str, dict[str, float | None]] = {}
    for name in rows[0]["areas"]:
        sizes = [row["areas"][name]["um2"] for row in rows]
        part = sum(row["areas"][name]["fraction"] * row["tissue_px"] for row in rows)
        together[name] = {
            "um2": None if None in sizes else sum(sizes),
            "fraction": part / tissue if tissue else 0.0,
        }
    return together


def _mapped(slide: Slide, out: Path, order: Order) -> tuple[Path, RegionOutcome]:
    """Run, or go on with, the map of a slide."""
    from napari_histosam.cli.predict import KEPT, part_of, region_of, remove, show_of
    from napari_histosam.session.regions import (
        RegionRequest,
        about_folder,
        map_regions,
        plan_regions,
        region_key,
    )

    plan = plan_regions(slide, order.model.card, region_of(slide, order.roi))
    request = RegionRequest(plan) if order.skip_glass else RegionRequest(plan, 0.0)
    if order.maps is None:
        folder = part_of(out)
        about = about_folder(folder)
        begun = about.get("key") if about else None
        if folder.is_file() or (begun and begun != region_key(slide, order.model, request)):
            remove(folder)  # of a run for something else
    else:
        folder = order.maps / f"{Path(slide.name).stem}{SUFFIX}"
    try:
        shown = show_of(slide.name)
        look = order.look(slide)
        return folder, map_regions(slide, order.model, request, folder, report=shown, look=look)
    except KeyboardInterrupt:
        sys.stderr.write(KEPT)
        raise


def _in_words(count: int, shares: dict[str, dict[str, float | None]]) -> str:
    parts = [f"{name} {100 * (share['fraction'] or 0):.1f} %" for name, share in shares.items()]
    areas = f"{count:,} area{'' if count == 1 else 's'}"
    return f"{areas}; of the tissue: {', '.join(parts)}."


def _smooth(text: str) -> float | None:
    if text.casefold() == "off":
        return None
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--smooth-um {text} must be a number of µm, or off.") from None
