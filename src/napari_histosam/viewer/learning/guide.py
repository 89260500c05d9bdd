"""The guided way from patch labels to a model of areas: its five steps, and what each one needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from psygnal import Signal

from napari_histosam.errors import InputError
from napari_histosam.viewer.learning.follow import Follower
from napari_histosam.viewer.learning.order import data_name, model_name, spare_threads
from napari_histosam.viewer.learning.patch_bases import DECODER
from napari_histosam.viewer.learning.patch_order import (
    AGREEMENT,
    PatchCourse,
    PatchOrder,
    begin_patches,
    patch_courses,
    refuse_two,
)
from napari_histosam.viewer.learning.patch_shelf import PatchShelf

if TYPE_CHECKING:
    from napari_histosam.jobs import JobRunner
    from napari_histosam.viewer.controller import Controller
    from napari_histosam.viewer.heat import HeatShower
    from napari_histosam.viewer.learning.follow import Snapshot
    from napari_histosam.viewer.learning.launcher import Launcher
    from napari_histosam.viewer.learning.patch_bases import PatchBase
    from napari_histosam.viewer.workbench import Workbench

Key = Literal["label", "classifier", "heat", "outlines", "predict"]
Standing = Literal["waits", "ready", "running", "halted", "failed", "done"]
KEYS: tuple[Key, ...] = ("label", "classifier", "heat", "outlines", "predict")

# Patches of a label below which nothing is begun, and from which on there are enough: the second
# a rule of thumb.
LEAST, ENOUGH = 5, 200
_STAGES = {
    "classifier": "Learning to tell tumour from normal",
    "heat": "Making heat maps of the tumour patches",
    "decoder": "Learning outlines from the heat maps",
}


@dataclass(frozen=True)
class Step:
    """One step as it stands.

    Parameters
    ----------
    key : Key
    title : str
    standing : Standing
    text : str
        What there is, or what is lacking, in a sentence or two.
    action : str
        What its button says; empty where there is nothing to do.
    fraction : float or None
        How far what runs has come; None while that is not known.
    """

    key: Key
    title: str
    standing: Standing
    text: str
    action: str = ""
    fraction: float | None = None


class Guide:
    """Leads through a training from patch labels.

    Parameters
    ----------
    workbench : Workbench
    jobs : JobRunner
    launcher : Launcher
        Shared with trainings from objects: one runs at a time.

    Notes
    -----
    Signals: ``changed()``, ``said(str)``, ``models_changed()``.
    """

    changed = Signal()
    said = Signal(str)
    models_changed = Signal()

    def __init__(self, workbench: Workbench, jobs: JobRunner, launcher: Launcher) -> None:
        self._workbench, self._launcher = workbench, launcher
        self.shelf = PatchShelf(jobs)
        self.base: PatchBase | None = None
        self.course: PatchCourse | None = None
        self.heat: HeatShower | None = None
        self.agreement = AGREEMENT
        self._follower: Follower | None = None
        self._shown: Snapshot | None = None
        self._controller: Controller | None = None
        self.shelf.changed.connect(self.changed.emit)

    # -- what is taught ----------------------------------------------------------------------

    def choose(self, base: PatchBase | None) -> None:
        """Teach another model; a training of it that was begun is found again."""
        self.base = base
        self._look_at(None if base is None else _last_of(base))

    def show_controller(self, controller: Controller | None, heat: HeatShower | None) -> None:
        """Follow another session, with what shows heat on its slide."""
        if self._controller is not None:
            self._controller.patches.changed.disconnect(self.changed.emit)
        if self.heat is not None:
            self.heat.changed.disconnect(self.changed.emit)
        self._controller, self.heat = controller, heat
        if controller is not None:
            controller.patches.changed.connect(self.changed.emit)
        if heat is not None:
            heat.changed.connect(self.changed.emit)
        self.shelf.show_controller(controller)
        self.changed.emit()

    @property
    def model(self) -> str:
        """The model that has been taught so far; empty before there is one."""
        cards = self._workbench.registry.cards()
        if self.course is not None and self.course.reached:
            name = self.course.patch_order.name
            return name if name in cards else ""
        if self.base is not None and self.base.trained:
            return self.base.model
        return ""

    @property
    def working(self) -> bool:
        """Whether a training runs."""
        return self._shown is not None and self._shown.working

    # -- how it stands -----------------------------------------------------------------------

    def look(self) -> None:
        """Read how the training stands; ``changed`` tells if it does not stand as before."""
        if self._follower is None:
            return
        before, self._shown = self._shown, self._follower.look()
        if before is not None and before.state != self._shown.state:
            if self._shown.state == "finished":
                self.models_changed.emit()
                self.said.emit(self._shown.message or "The training has ended.")
            elif self._shown.state in ("failed", "lost"):
                self.said.emit(self._shown.message)
        if before != self._shown:
            self.changed.emit()

    def steps(self) -> list[Step]:
        """Return all steps as they stand."""
        return [self._label(), self._classifier(), self._heat(), self._outlines(), self._predict()]

    @property
    def counts(self) -> tuple[int, int]:
        """Tumour and normal patches of all slides that are learned from."""
        slides = self.shelf.slides
        return sum(one.tumour for one in slides), sum(one.normal for one in slides)

    def _label(self) -> Step:
        title, (tumour, normal) = "Label patches", self.counts
        if self.shelf.trouble:
            return Step("label", title, "waits", self.shelf.trouble)
        slides = self.shelf.slides
        where = f" on {len(slides)} slides" if len(slides) > 1 else ""
        text = f"{tumour} tumour, {normal} normal{where}."
        if min(tumour, normal) < LEAST:
            return Step(
                "label", title, "ready", f"{text} Label at least {LEAST} of each.", "Label patches"
            )
        if min(tumour, normal) < ENOUGH:
            text += f" Enough to try it out; {ENOUGH} of each, from several patients, are better."
        return Step("label", title, "done", text, "Label patches")

    def _classifier(self) -> Step:
        title, action = "Train the classifier", "Train"
        running = self._run("classifier", title)
        if running is not None:
            return running
        enough = min(self.counts) >= LEAST
        if self.course is not None and self.course.reached:
            text = self._done("classifier")
            return Step("classifier", title, "done", text, "Train anew" if enough else "")
        if self.base is not None and self.base.trained and self.course is None:
            text = f"{self.base.model} has learned before; training makes a new model of it."
            return Step("classifier", title, "done", text, action if enough else "")
        if not enough:
            return Step("classifier", title, "waits", "Needs patches of both labels.")
        text = "It learns which patches hold tumour, beside the window; work on meanwhile."
        return Step("classifier", title, "ready", text, action)

    def _heat(self) -> Step:
        title = "Look at the heat map"
        if not self.model:
            return Step("heat", title, "waits", "Needs a trained classifier.")
        if self.working:
            return Step("heat", title, "waits", "When the training has ended.")
        shown = "" if self.heat is None else self.heat.text
        if shown:
            text = f"{shown} Set the threshold so that what stays is tumour."
            return Step("heat", title, "done", text, "Look at this view")
        text = "Shows where in the patches of the view it sees tumour."
        return Step("heat", title, "ready", text, "Look at this view")

    def _outlines(self) -> Step:
        title, action = "Teach the outlines", "Train outlines"
        running = self._run("outlines", title)
        if running is not None:
            return running
        reached = "" if self.course is None else self.course.reached
        if reached == "outlines":
            return Step("outlines", title, "done", self._done("outlines"), "Train them anew")
        if reached != "classifier":
            return Step("outlines", title, "waits", "Needs a classifier trained here.")
        text = "SAM outlines what is warm; what agrees with the heat map is learned from."
        return Step("outlines", title, "ready", text, action)

    def _predict(self) -> Step:
        title, reached = "Predict", "" if self.course is None else self.course.reached
        whole = reached == "outlines" or (self.course is None and bool(self.model))
        if not whole or self.working:
            return Step("predict", title, "waits", "Needs the outlines.")
        text = f"{self.model} finds tumour areas on any slide, in the tab Automate."
        return Step("predict", title, "ready", text, "Go to Automate")

    def _run(self, key: Key, title: str) -> Step | None:
        """Return the step of a training that is under way or halted, if it is this step's."""
        course, shown = self.course, self._shown
        if course is None or shown is None or shown.state == "finished":
            return None
        if key != ("classifier" if course.patch_order.until else "outlines"):
            return None
        if shown.working:
            text, fraction = _progress(course, shown)
            action = "" if shown.state == "halting" else "Pause"
            return Step(key, title, "running", text, action, fraction)
        failed = shown.state in ("failed", "lost")
        return Step(key, title, "failed" if failed else "halted", shown.message, "Resume")

    def _done(self, stage: Key) -> str:
        assert self.course is not None
        message = str(self.course.read("result").get("message", "")).strip()
        if stage == "classifier" and self.course.reached != "classifier":
            return "It is trained."
        return message or "It is trained."

    # -- doing -------------------------------------------------------------------------------

    def train(self, pixels: int, epochs: int) -> None:
        """Begin to train the classifier with the labels that there are.

        Parameters
        ----------
        pixels : int
            Side at which the network sees a patch.
        epochs : int

        Raises
        ------
        InputError
            If labels are lacking, another training is running, or it cannot be started.
        """
        base, controller = self.base, self._controller
        if base is None or controller is None:
            raise InputError(self.shelf.trouble or "Choose a base model first.")
        tumour, normal = self.counts
        if min(tumour, normal) < LEAST:
            raise InputError(
                f"There are {tumour} tumour and {normal} normal patches; label at least {LEAST} of "
                "each."
            )
        refuse_two(self._launcher, None)
        slides = self.shelf.slides
        registry = self._workbench.registry
        taken = [str(one.read("order").get("name", "")) for one in patch_courses()]
        model = base.model or _free(f"{DECODER}-on-{base.base}", {*registry.cards(), *taken})
        data = data_name([one.name for one in slides])
        known = [*taken, model]
        name = (
            model_name(registry, base.model, data, known)
            if base.model
            else _free(f"{DECODER}-{data}", {*registry.cards(), *known})
        )
        mpp = controller.session.slide.mpp
        order = PatchOrder(
            sources=tuple(one.path.absolute() for one in slides),
            slides=tuple(one.name for one in slides),
            tumour=tumour,
            normal=normal,
            key=base.key,
            model=model,
            base=base.base,
            name=name,
            # Without micrometres a patch is as many px as the slide has there.
            size=pixels if mpp is not None else round(controller.patches.side),
            pixels=pixels,
            mpp=None if mpp is None else controller.patches.side / pixels,
            epochs=epochs,
            threads=spare_threads(),
        )
        course = begin_patches(order)
        self._launcher.start(course)
        self._look_at(course)

    def outlines(self) -> None:
        """Go on from the classifier to the outlines, with the threshold that was chosen.

        Raises
        ------
        InputError
            If there is no classifier, or another training is running.
        """
        if self.course is None or not self.course.reached:
            raise InputError("Train the classifier first.")
        refuse_two(self._launcher, None)
        percentile = None if self.heat is None else self.heat.percentile
        self.course.go_on(percentile, self.agreement)
        self._start()

    def pause(self) -> None:
        """Have the training pause at its next step."""
        if self.course is not None:
            self._launcher.pause(self.course)
            self.look()

    def resume(self) -> None:
        """Have the training go on from where it was kept last."""
        refuse_two(self._launcher, None)
        self._start()

    def _start(self) -> None:
        if self.course is not None:
            self._launcher.start(self.course)
            self.look()

    def _look_at(self, course: PatchCourse | None) -> None:
        self.course = course
        self._follower = None if course is None else Follower(course, self._launcher)
        self._shown = None
        self.look()
        self.changed.emit()


def _last_of(base: PatchBase) -> PatchCourse | None:
    """Return the training that was begun last on a base, or that made it."""
    for course in patch_courses():
        said = course.read("order")
        if said.get("key") == base.key or (base.model and said.get("name") == base.model):
            return course
    return None


def _progress(course: PatchCourse, shown: Snapshot) -> tuple[str, float | None]:
    """Return what a training does now, and how far that is: each of its stages counts anew."""
    if shown.state == "building":
        return "Cutting the labelled patches out of the slides.", None
    run = course.read("run/run")
    if shown.state in ("starting", "preparing") or "stage" not in run:
        return shown.message, None
    stage = str(run["stage"])
    text = _STAGES.get(stage, f"Outlines, {stage}" if stage else shown.message)
    try:
        done = float(run["step"]) / max(float(run["steps"]), 1.0)
    except (KeyError, TypeError, ValueError):
        return f"{text}.", None
    if shown.state == "halting":
        return shown.message, done
    return f"{text}: {done:.0%}.", done


def _free(wish: str, taken: set[str]) -> str:
    wish = name = wish[:56].strip("-.")
    number = 2
    while name in taken:
        name, number = f"{wish}-{number}", number + 1
    return name
