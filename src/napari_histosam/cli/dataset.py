"""``histosam dataset``: from accepted objects to a folder that models can be trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_histosam.cli.progress_line import ProgressLine
from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from napari_histosam.models import ModelCard
    from napari_histosam.train.dataset.request import Settings


def add_to(commands: Any) -> ArgumentParser:
    """Declare the command."""
    made: ArgumentParser = commands.add_parser(
        "dataset", help="build a data set for training from accepted objects"
    )
    made.add_argument(
        "stores",
        type=Path,
        nargs="*",
        metavar="STORE",
        help="stores, slides whose objects are kept, or folders of stores",
    )
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="new, or to update")
    made.add_argument(
        "--annotations",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="GeoJSON or label image of the --slide of the same turn; may repeat",
    )
    made.add_argument("--slide", type=Path, action="append", default=[], metavar="SLIDE")
    made.add_argument(
        "--slides",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="slide or folder of slides, for stores that do not lie beside theirs; may repeat",
    )
    _add_windows_to(made)
    _add_splits_to(made)
    made.add_argument("--licence", default="", metavar="TEXT", help="a note for the manifest")
    made.add_argument(
        "--region-class",
        action="append",
        default=[],
        metavar="NAME",
        help="class that marks fully labelled regions, besides Region* and Fully labelled",
    )
    made.add_argument(
        "--automatic",
        action="store_true",
        help="take a model's automatic objects as truth, even if nobody accepted or corrected them",
    )
    made.add_argument(
        "--reviewed-only",
        action="store_true",
        help="take only objects that were accepted or corrected in a review",
    )
    return made


def _add_windows_to(command: ArgumentParser) -> None:
    command.add_argument("--model", metavar="NAME", help="whose scale and size of objects to suit")
    command.add_argument("--mpp", type=float, metavar="MPP", help="µm per px; else the model's")
    command.add_argument(
        "--size",
        type=int,
        metavar="PX",
        help="side of a window; else 512, or the model's own if it learns from whole windows",
    )
    command.add_argument(
        "--background",
        type=float,
        default=0.25,
        metavar="N",
        help="windows without objects from labelled regions, per window with objects",
    )


def _add_splits_to(command: ArgumentParser) -> None:
    command.add_argument(
        "--patients",
        nargs="+",
        action="extend",
        default=[],
        metavar="TABLE.csv|SLIDE=PATIENT",
        help="slides of one patient are never split; a table has the columns slide and patient",
    )
    command.add_argument("--val", type=float, default=0.15, metavar="SHARE")
    command.add_argument("--test", type=float, default=0.15, metavar="SHARE")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument(
        "--refreeze", action="store_true", help="make the test set anew, which else stays as it is"
    )


def run(args: Namespace) -> tuple[dict[str, Any], str]:
    """Build the data set."""
    from napari_histosam.train.dataset.build import build
    from napari_histosam.train.dataset.patients import read_patients
    from napari_histosam.train.dataset.request import Annotated, Request

    if len(args.annotations) != len(args.slide):
        raise InputError(
            f"There are {len(args.annotations)} --annotations and {len(args.slide)} --slide; give "
            "each annotation file the slide it belongs to, in the same order."
        )
    request = Request(
        out=args.out,
        stores=tuple(args.stores),
        annotated=tuple(
            Annotated(slide, file) for slide, file in zip(args.slide, args.annotations, strict=True)
        ),
        look_in=tuple(args.slides),
        patients=read_patients(args.patients),
        settings=_settings(args),
    )
    shown = ProgressLine()
    try:
        done = build(request, shown)
    finally:
        shown.end()
    return done.to_dict(), done.text()


def _size(card: ModelCard) -> int:
    from napari_histosam.models.window_trainable import learns_windows
    from napari_histosam.train.dataset.request import Settings

    return card.window_px if learns_windows(card) else Settings.size


def _settings(args: Namespace) -> Settings:
    from napari_histosam.models import ModelRegistry
    from napari_histosam.session import DEFAULT_MODEL
    from napari_histosam.train.dataset.request import OBJECT_PX, Settings

    card = ModelRegistry().get(args.model or DEFAULT_MODEL)
    mpp = card.mpp if args.mpp is None else args.mpp
    return Settings(
        size=_size(card) if args.size is None else args.size,
        mpp=mpp,
        object_px=card.object_px or OBJECT_PX,
        model=card.name if args.mpp is None else None,
        background=args.background,
        val=args.val,
        test=args.test,
        seed=args.seed,
        licence=args.licence,
        region_classes=tuple(args.region_class),
        automatic=args.automatic,
        reviewed_only=args.reviewed_only,
        refreeze=args.refreeze,
    )
