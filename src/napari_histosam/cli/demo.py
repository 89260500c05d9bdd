"""``histosam demo``: the main job on the shipped sample, in a window if there is a display."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_histosam.cli.display import has_display
from napari_histosam.errors import HistosamError, InputError
from napari_histosam.records import ObjectClass

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from napari_histosam.records import Prompt
    from napari_histosam.session import Session
    from napari_histosam.slide import Slide

NUCLEUS = ObjectClass("Nucleus", (255, 214, 10))
FOLLICLE = ObjectClass("Hair follicle", (10, 200, 190))

# What the window's picture is centred on, level-0 px.
FOCUS = (1190.0, 2010.0, 1320.0, 2140.0)


@dataclass(frozen=True)
class Step:
    """One object of the demo: its class, and its prompts in level-0 px of the sample."""

    cls: ObjectClass
    positive: tuple[tuple[float, float], ...] = ()
    negative: tuple[tuple[float, float], ...] = ()
    box: tuple[float, float, float, float] | None = None


SCRIPT = (
    Step(NUCLEUS, positive=((1134.0, 2027.5),)),
    Step(NUCLEUS, positive=((1154.5, 2031.5),)),
    Step(NUCLEUS, positive=((1153.0, 1978.0),), negative=((1170.0, 1985.0),)),
    Step(NUCLEUS, box=(1124.0, 1989.0, 1136.0, 2004.0)),
    Step(NUCLEUS, positive=((1384.5, 2022.0),)),
    Step(FOLLICLE, box=(1191.0, 1993.0, 1336.0, 2182.0)),
)


def add_to(commands: Any) -> ArgumentParser:
    """Declare the command."""
    made: ArgumentParser = commands.add_parser("demo", help="the main job on the shipped sample")
    made.add_argument("--out", type=Path, default=Path("demo_out"), metavar="DIR")
    made.add_argument("--stay", action="store_true", help="leave the window open at the end")
    made.add_argument("--no-window", action="store_true", help="do without a window")
    return made


def run(args: Namespace) -> tuple[dict[str, Any], str]:
    """Open the sample, prompt, accept, export; write a GeoJSON file and a picture."""
    start = time.perf_counter()
    out = _folder(args.out)
    windowed = has_display() and not args.no_window
    if args.stay and not windowed:
        raise InputError("--stay needs a window, and there is no display to open one on.")
    if windowed:
        result = _in_window(out, stay=args.stay)
    else:
        result = _without_window(out)
    result["seconds"] = round(time.perf_counter() - start, 2)
    made = [result[key] for key in ("out", "picture", "screenshot") if key in result]
    files = "\n".join(f"  {name}" for name in made)
    text = (
        f"{result['objects']} objects on the sample slide with the model {result['model']}, "
        f"written and read back:\n{files}"
    )
    return result, text


def _without_window(out: Path) -> dict[str, Any]:
    from napari_histosam.home import sample_slide
    from napari_histosam.session import Session
    from napari_histosam.slide import open_slide

    with open_slide(sample_slide()) as slide:
        session = Session(slide, author="demo")
        prompts = play(session)
        result = _hand_over(session, slide, prompts, out)
        session.close()
    return result


def _in_window(out: Path, *, stay: bool) -> dict[str, Any]:
    from napari_histosam.home import sample_slide
    from napari_histosam.viewer import launch
    from napari_histosam.viewer.showing import Stage

    # A copy of its own, so that the demo never touches what a user has on the sample slide.
    slide = out / sample_slide().name
    shutil.copyfile(sample_slide(), slide)
    for old in out.glob(f"{slide.name}*.sqlite*"):
        old.unlink()
    stage = Stage(slide)
    try:
        stage.controller.look_at(*FOCUS)
        session = stage.controller.session
        prompts = play(session, stage.settle)
        result = _hand_over(session, session.slide, prompts, out)
        result["screenshot"] = str(stage.picture(out / "window.png"))
        if stay:
            launch.run()
    finally:
        stage.close()
    return result


def play(session: Session, settle: Callable[[], None] = lambda: None) -> list[Prompt]:
    """Give the demo's prompts to a session, accept each object, and return the prompts.

    ``settle`` waits until the session has answered; a session for scripts has at once.
    """
    for cls in (NUCLEUS, FOLLICLE):
        session.store.put_class(cls)
    given: list[Prompt] = []
    for step in SCRIPT:
        session.current_class = step.cls.name
        for x, y in step.positive:
            session.add_point(x, y)
        if step.box is not None:
            session.add_box(*step.box)
        for x, y in step.negative:
            session.add_point(x, y, positive=False)
        settle()
        given.extend(session.prompts.all())
        session.accept(step.cls.name)
    return given


def _hand_over(session: Session, slide: Slide, prompts: list[Prompt], out: Path) -> dict[str, Any]:
    """Export the session's objects, read the file back, draw the picture."""
    from napari_histosam.exchange import read, write
    from napari_histosam.session.handover import context_of
    from napari_histosam.session.picture import draw_picture

    classes = session.store.classes()
    objects = list(session.store.iterate())
    target = out / "demo.geojson"
    context = context_of(slide, classes)
    report = write(objects, target, slide_info=context)
    back = read(target, context)
    if {o.id for o in back.objects} != {o.id for o in objects}:
        raise HistosamError(f"{target} does not read back as it was written; please report this.")
    colours = {c.name: c.colour for c in classes}
    picture = draw_picture(slide, objects, prompts, colours, out / "demo.png")
    return {
        "objects": report.n,
        "out": str(target),
        "picture": str(picture),
        "model": session.card.name,
    }


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {path} cannot be made ({error.strerror}); choose another with --out."
        ) from error
    return path
