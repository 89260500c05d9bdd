"""``histosam patches``: labels of patches in and out of a slide's store, and a data set of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_histosam.cli.progress_line import ProgressLine
from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from napari_histosam.records import PatchKind
    from napari_histosam.slide import Slide

SIZE, MPP = 512, 0.25


def add_to(commands: Any) -> ArgumentParser:
    """Declare the command."""
    made: ArgumentParser = commands.add_parser(
        "patches", help="labels of patches (tumour, normal): import, export, data set"
    )
    made.add_argument("slides", type=Path, nargs="+", metavar="SLIDE")
    made.add_argument(
        "--import",
        dest="source",
        type=Path,
        metavar="FILE",
        help="CSV with slide,x,y,size,label or column,row,label; or GeoJSON of classed regions",
    )
    made.add_argument(
        "--tumour", action="append", default=[], metavar="CLASS", help="class that means tumour"
    )
    made.add_argument(
        "--normal", action="append", default=[], metavar="CLASS", help="class that means normal"
    )
    made.add_argument("--out", type=Path, metavar="CSV", help="write all labels of the slide")
    made.add_argument("--dataset", type=Path, metavar="DIR", help="write patches to train on")
    made.add_argument(
        "--mpp",
        type=float,
        metavar="MPP",
        help=f"µm per px of a patch ({MPP:g} where µm are known)",
    )
    made.add_argument("--size", type=int, default=SIZE, metavar="PX", help="side of a patch")
    made.add_argument(
        "--patients",
        nargs="+",
        action="extend",
        default=[],
        metavar="TABLE.csv|SLIDE=PATIENT",
        help="slides of one patient are never split",
    )
    made.add_argument("--val", type=float, default=0.15, metavar="SHARE")
    made.add_argument("--test", type=float, default=0.15, metavar="SHARE")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--licence", default="", metavar="TEXT", help="a note for the manifest")
    return made


def run(args: Namespace) -> tuple[dict[str, Any], str]:
    """Import, export, count, or write a data set."""
    if args.dataset is None:
        return _labels(args)
    if args.source is not None or args.out is not None:
        raise InputError("Give --import and --out in a call of their own, then --dataset.")
    from napari_histosam.slide import open_slide
    from napari_histosam.train.dataset.patch_folder import build_patches
    from napari_histosam.train.dataset.patch_request import PatchRequest
    from napari_histosam.train.dataset.patients import read_patients

    with open_slide(args.slides[0]) as first:
        mpp = _mpp(args, first)
    request = PatchRequest(
        out=args.dataset,
        slides=tuple(args.slides),
        size=args.size,
        mpp=mpp,
        patients=read_patients(args.patients),
        val=args.val,
        test=args.test,
        seed=args.seed,
        licence=args.licence,
    )
    shown = ProgressLine()
    try:
        done = build_patches(request, shown)
    finally:
        shown.end()
    return done.to_dict(), done.text()


def _labels(args: Namespace) -> tuple[dict[str, Any], str]:
    from napari_histosam.exchange.options import ExportContext
    from napari_histosam.exchange.patch_labels import read_patch_labels, write_patch_labels
    from napari_histosam.geometry.grid import PatchGrid
    from napari_histosam.slide import open_slide
    from napari_histosam.store import PatchBook, open_store_for

    if len(args.slides) != 1:
        raise InputError("Labels are read and written for one slide at a time; name one SLIDE.")
    (path,) = args.slides
    notes: list[str] = []
    result: dict[str, Any] = {}
    with (
        open_slide(path) as slide,
        open_store_for(path, slide.identity, slide.name) as store,
    ):
        book = PatchBook(store)
        if args.source is not None:
            mpp, size = _mpp(args, slide), (slide.width, slide.height)
            if not 0 < args.size * (mpp or 1.0) < 1e6:
                raise InputError("A patch has a side above 0; change --size or --mpp.")
            grid = PatchGrid.of(size, slide.mpp, args.size * (mpp or 1.0))
            context = ExportContext(slide.mpp, slide.bounds, size, slide.name)
            found = read_patch_labels(
                args.source, grid, context, identity=slide.identity, classes=_classes(args)
            )
            result["changed"] = book.put(found.labels, "Import patch labels")
            notes += [f"{len(found.labels)} patches read, {result['changed']} new or changed."]
            notes += found.notes
        counts = book.counts()
        if args.out is not None:
            written = write_patch_labels(book.all(), args.out, slide.name)
            result["out"] = str(args.out)
            notes.append(f"{written} labels written to {args.out}.")
        mpp_of = slide.mpp
    sizes: list[dict[str, Any]] = [
        {
            "size": [one.width, one.height],
            "um": None if mpp_of is None else round(one.width * mpp_of[0], 3),
            "tumour": one.tumour,
            "normal": one.normal,
        }
        for one in counts
    ]
    result |= {
        "slide": str(path),
        "tumour": sum(one.tumour for one in counts),
        "normal": sum(one.normal for one in counts),
        "sizes": sizes,
        "notes": notes,
    }
    lines = [
        f"Patches of {one['size'][0]:g} px"
        + (f" ({one['um']:g} µm)" if one["um"] else "")
        + f": {one['tumour']} tumour, {one['normal']} normal"
        for one in sizes
    ]
    return result, "\n".join([*notes, *(lines or ["No patch is labelled."])])


def _mpp(args: Namespace, slide: Slide) -> float | None:
    if slide.mpp is None:
        if args.mpp is not None:
            raise InputError(
                f"{slide.name} does not say how many µm its pixels are; leave --mpp away, --size "
                "then counts its own px."
            )
        return None
    mpp = MPP if args.mpp is None else args.mpp
    if not 0 < mpp < 1000:
        raise InputError(f"{mpp} µm per px is no scale; change --mpp.")
    return float(mpp)


def _classes(args: Namespace) -> dict[str, PatchKind]:
    found: dict[str, PatchKind] = dict.fromkeys(args.tumour, "tumour")
    for name in args.normal:
        if found.setdefault(name, "normal") != "normal":
            raise InputError(f"{name} cannot mean both tumour and normal; name it once.")
    return found
