"""``histosam predict``: what a model finds by itself on slides, objects or areas, to files."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_histosam.cli.convert import add_origin_to
from napari_histosam.cli.models import check_licence
from napari_histosam.cli.predict_areas import (
    add_areas_to,
    areas_together,
    check_objects,
    one_map,
    picks_of,
    settings_of,
)
from napari_histosam.cli.target import check_target
from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterator, Sequence

    from napari_histosam.exchange import ExportOptions
    from napari_histosam.jobs import Progress
    from napari_histosam.models.automatic import AutomaticModel
    from napari_histosam.records import Prompt
    from napari_histosam.session.automate import AutomateRequest, Outcome
    from napari_histosam.session.automate.looking import Looker
    from napari_histosam.session.regions import AreaSettings
    from napari_histosam.slide import Slide
    from napari_histosam.store import ObjectStore

PART = ".part"
KEPT = "\nWhat was found so far is kept: run the same command again to go on.\n"
NO_SCALE = (
    "its µm per pixel are not known, so the model saw its pixels as they are; sizes may be far "
    "from what it learned."
)


def add_to(commands: Any) -> ArgumentParser:
    """Declare the command."""
    made: ArgumentParser = commands.add_parser(
        "predict",
        help="find all objects, or all areas, of slides without prompts",
        description="Stopped or killed, it goes on where it was when the same command is run "
        f"again: what was found lies beside OUT until all is done, in files that end in {PART}.",
    )
    made.add_argument("slides", nargs="+", type=Path, metavar="SLIDE")
    made.add_argument("--model", required=True, metavar="NAME")
    made.add_argument("--weights", type=Path, nargs="+", metavar="FILE")
    made.add_argument("--roi", metavar="X,Y,W,H", help="only this part, level-0 px")
    made.add_argument(
        "--score", type=float, default=0.0, metavar="S", help="leave out what scores less (0 to 1)"
    )
    made.add_argument("--class", dest="class_name", metavar="NAME", help="class of all objects")
    made.add_argument("--glass", action="store_true", help="look at bare glass, too")
    add_areas_to(made)
    made.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="OUT",
        help="a file, or of several slides a folder that gets a GeoJSON file of each",
    )
    made.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N|mps")
    made.add_argument(
        "--scheduler",
        metavar="ADDR",
        help="have the workers of this dask scheduler look, on other machines too",
    )
    add_origin_to(made)
    return made


@dataclass(frozen=True)
class Order:
    """What holds for every slide of the command."""

    model: Any
    options: ExportOptions
    roi: tuple[float, float, float, float] | None
    least_score: float
    class_name: str | None
    skip_glass: bool
    settings: AreaSettings | None
    maps: Path | None
    picks: Sequence[Prompt]
    look: Callable[[Slide], Looker[Any] | None]


def run(args: Namespace) -> tuple[dict[str, Any], str]:
    """Find the objects of each slide and write them."""
    from napari_histosam.exchange import ExportOptions, preview
    from napari_histosam.models import ModelRegistry
    from napari_histosam.session.handover import context_of
    from napari_histosam.slide import open_slide

    start = time.perf_counter()
    roi = _roi(args.roi)
    if not 0 <= args.score <= 1:
        raise InputError("--score goes from 0 to 1.")
    options = ExportOptions(origin=args.origin)
    registry = ModelRegistry()
    card = registry.get(args.model)
    settings = settings_of(args, card) if card.finds == "regions" else None
    if settings is None:
        check_objects(args, card, registry.cards().values())
    targets = _targets(args.slides, args.out)
    picks = picks_of(args)
    for path, out in targets:
        # What cannot be read, looked at or written is refused before the work.
        with open_slide(path) as slide:
            check_target(out)
            preview({}, out, options, context_of(slide, ()))
            region_of(slide, roi)
    if not args.weights:
        check_licence(registry, args.model)
    warnings: list[str] = []
    loaded: Any = registry.load(
        args.model, device=args.device, files=args.weights, say=warnings.append
    )
    rows = []
    with _lookers(args, loaded) as look:
        order = Order(
            model=loaded,
            options=options,
            roi=roi,
            least_score=args.score,
            class_name=args.class_name,
            skip_glass=not args.glass,
            settings=settings,
            maps=args.map,
            picks=picks,
            look=look,
        )
        for path, out in targets:
            with open_slide(path) as slide:
                rows.append((_one if settings is None else one_map)(slide, out, order))
    for _, out in targets:
        remove(part_of(out))
    seconds = round(time.perf_counter() - start, 3)
    for row in rows:
        warnings += [f"{row['slide']}: {text}" for text in row["warnings"]]
    result: dict[str, Any] = {
        "objects": sum(row["objects"] for row in rows),
        "seconds": seconds,
        "out": str(args.out if len(rows) > 1 else targets[0][1]),
        "model": loaded.card.name,
        "device": loaded.device,
        "slides": rows,
        "warnings": warnings,
    }
    if settings is not None:
        result["areas"] = areas_together(rows)
    lines = [f"{row['slide']}: {row['text']} Written to {row['out']}" for row in rows]
    return result, "\n".join([*lines, f"{seconds:.1f} s in all", *warnings])


def _one(slide: Slide, out: Path, order: Order) -> dict[str, Any]:
    from napari_histosam.exchange import write
    from napari_histosam.session.automate import AutomateRequest, plan_tiles
    from napari_histosam.session.handover import context_of

    start = time.perf_counter()
    card = order.model.card
    plan = plan_tiles(slide, card, region_of(slide, order.roi))
    request = AutomateRequest(plan, order.least_score, order.class_name, order.skip_glass)
    warnings = [] if slide.mpp is not None else [NO_SCALE]
    with _opened(part_of(out), slide, order.model, request) as store:
        outcome = _found(slide, store, order.model, request, order.look(slide))
        report = write(
            store.iterate(),
            out,
            slide_info=context_of(slide, store.classes()),
            options=order.options,
        )
    return {
        "slide": slide.name,
        "objects": report.n,
        "seconds": round(time.perf_counter() - start, 3),
        "out": str(out),
        "tiles": outcome.tiles,
        "resumed": outcome.resumed,
        "text": outcome.text,
        "warnings": [*warnings, *report.warnings],
    }


@contextmanager
def _lookers(
    args: Namespace, model: AutomaticModel
) -> Iterator[Callable[[Slide], Looker[Any] | None]]:
    """Give what returns who looks at a slide's tiles: workers of a scheduler, or None for here."""
    if args.scheduler is None:
        yield lambda slide: None
        return
    from napari_histosam.jobs.cluster import connected
    from napari_histosam.session.automate.elsewhere import LookElsewhere, sight_of

    files = tuple(str(path.absolute()) for path in args.weights or ())
    with connected(args.scheduler) as cluster:
        yield lambda slide: LookElsewhere(cluster, sight_of(slide, model, files, args.device))


def _found(
    slide: Slide,
    store: ObjectStore,
    model: AutomaticModel,
    request: AutomateRequest,
    look: Looker[Any] | None,
) -> Outcome:
    """Run, or go on with, what the store's journal tells of."""
    from napari_histosam.session.automate import automate

    try:
        report = show_of(slide.name)
        return automate(slide, store, model, request, report=report, look=look, repeat=False)
    except KeyboardInterrupt:
        sys.stderr.write(KEPT)
        raise


def _opened(
    path: Path, slide: Slide, model: AutomaticModel, request: AutomateRequest
) -> ObjectStore:
    """Open the file of a run under way; one that was asked for something else begins anew."""
    from napari_histosam.session.automate import key_for
    from napari_histosam.store import ObjectStore, RunJournal

    def opened() -> ObjectStore:
        if path.is_dir():
            remove(path)  # of a run of another kind
        return ObjectStore.open(path, slide_identity=slide.identity, slide_name=slide.name)

    store = opened()
    if store.read_only:
        store.close()
        raise InputError(
            f"{path} is in use: the same command runs already; wait for it or choose another --out."
        )
    last = RunJournal(store).last()
    if last is None and len(store):
        store.close()
        raise InputError(f"{path} holds objects that no run has found; move it away.")
    if last is not None and last.key != key_for(slide, model, request):
        store.close()
        remove(path)
        return opened()
    return store


def _targets(slides: Sequence[Path], out: Path) -> list[tuple[Path, Path]]:
    """Return each slide with the file that its objects go to."""
    if len(slides) == 1 and not out.is_dir():
        return [(slides[0], out)]
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: for several slides name a folder.")
    names = [f"{path.stem}.geojson" for path in slides]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"Two of the slides would be written to {name}: run them one by one, each with "
                "its own --out."
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {out} cannot be made ({error.strerror}); choose another with --out."
        ) from error
    return [(path, out / name) for path, name in zip(slides, names, strict=True)]


def _roi(text: str | None) -> tuple[float, float, float, float] | None:
    if text is None:
        return None
    try:
        x, y, w, h = (float(part) for part in text.split(","))
    except ValueError:
        x = y = w = h = float("nan")
    if not (w > 0 and h > 0 and abs(x) < 1e9 and abs(y) < 1e9 and w < 1e9 and h < 1e9):
        raise InputError(f"--roi {text} must be four numbers x,y,w,h in px, w and h above 0.")
    return x, y, w, h


def region_of(slide: Slide, roi: tuple[float, float, float, float] | None) -> Any:
    """Return the part of a slide that is looked at; None for all of it."""
    import shapely

    if roi is None:
        return None
    x, y, w, h = roi
    box = shapely.box(x, y, x + w, y + h)
    if box.intersection(shapely.box(0, 0, slide.width, slide.height)).area <= 0:
        raise InputError(
            f"--roi lies outside of {slide.name}, which has {slide.width} x {slide.height} px."
        )
    return box


def part_of(out: Path) -> Path:
    """Return where a run under way keeps what it has found so far."""
    return out.with_name(out.name + PART)


def remove(path: Path) -> None:
    """Remove what a run left beside its result: a file and its company, or a map."""
    from napari_histosam.session.regions import about_folder

    if about_folder(path) is not None:
        shutil.rmtree(path)
        return
    for suffix in ("", "-wal", "-shm", ".lock"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def show_of(name: str) -> Callable[[Progress], None]:
    """Return what tells people at a terminal how far the run on a slide is."""

    def show(progress: Progress) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{name}: {progress.text}")
            if progress.done == progress.total:
                sys.stderr.write("\n")

    return show
