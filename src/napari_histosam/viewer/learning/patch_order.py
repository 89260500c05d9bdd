"""A training from patch labels: what is asked for, and the folder that it is done in."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError
from napari_histosam.home import home
from napari_histosam.viewer.learning.course import (
    Course,
    begin_folder,
    course_folders,
    courses,
)
from napari_histosam.viewer.learning.patch_bases import sam_on

if TYPE_CHECKING:
    from napari_histosam.models import ModelRegistry
    from napari_histosam.viewer.learning.launcher import Launcher

KIND = "patches"
CLASSIFIER = "classifier"
AGREEMENT = 0.9
# The result is for the window; the trace of what nobody foresaw is for the log.
_TOLD = ("--json", "--debug")


@dataclass(frozen=True)
class PatchOrder:
    """A training from patch labels to be done, or to go on with.

    Parameters
    ----------
    sources : tuple of Path
        Slides whose labels are kept.
    slides : tuple of str
        Their names, for people.
    tumour, normal : int
        How many patches are labelled.
    key : str
        What the user chose in the list of bases.
    model : str
        The model that learns; it is made first where ``base`` is given.
    base : str
        The SAM, or the bundled model, that it is made on; empty where it is there.
    name : str
        Of the model that is made.
    size : int
        Side of a patch's picture in px.
    pixels : int
        Side at which the network sees it.
    mpp : float, optional
        Its µm per px; None where slides do not know them.
    epochs : int
        Of the classifier, at most.
    until : str
        ``"classifier"`` ends after it; empty goes all the way.
    percentile : float, optional
        Of the heat: what is above it is taken for tumour; None leaves it to the model.
    agreement : float
        The least share of an outline that must be warm for it to be learned from.
    threads : int, optional
    """

    sources: tuple[Path, ...]
    slides: tuple[str, ...]
    tumour: int
    normal: int
    key: str
    model: str
    base: str
    name: str
    size: int
    pixels: int
    mpp: float | None
    epochs: int = 20
    until: str = CLASSIFIER
    percentile: float | None = None
    agreement: float = AGREEMENT
    threads: int | None = None

    def record(self) -> dict[str, Any]:
        """Return the order ready for JSON."""
        return {"kind": KIND, **asdict(self), "sources": [str(path) for path in self.sources]}

    @classmethod
    def read(cls, data: dict[str, Any]) -> PatchOrder:
        """Return the order that `record` wrote.

        Raises
        ------
        InputError
            If members are missing or unknown.
        """
        try:
            plain = {key: value for key, value in data.items() if key != "kind"}
            plain |= {"sources": tuple(Path(p) for p in data["sources"])}
            return cls(**{**plain, "slides": tuple(data["slides"])})
        except (KeyError, TypeError) as error:
            raise InputError(f"This training's order cannot be read ({error}).") from error

    def model_arguments(self, registry: ModelRegistry) -> list[list[str]]:
        """Return the command lines that make the model which learns; none where it is there."""
        cards = registry.cards()
        if not self.base or self.model in cards:
            return []
        base, lines = self.base, []
        if base in cards and cards[base].decoder != "sam":
            # The bundled encoder has no SAM yet.
            base = sam_on(self.base)
            if base not in cards:
                lines.append(["models", "new", "sam", "--base", self.base, "--name", base, *_TOLD])
        new = ["models", "new", "ep-sam", "--base", base, "--name", self.model]
        return [*lines, [*new, *_TOLD]]

    def dataset_arguments(self, out: Path) -> list[str]:
        """Return the command line that cuts the patches."""
        made = ["patches", *(str(path) for path in self.sources), "--dataset", str(out)]
        made += ["--size", str(self.size)]
        if self.mpp is not None:
            made += ["--mpp", repr(self.mpp)]
        return [*made, *_TOLD]

    def train_arguments(self, data: Path, out: Path) -> list[str]:
        """Return the command line that trains."""
        made = ["train", str(data), "--model", self.model, "--out", str(out), "--name", self.name]
        made += ["--patch-px", str(self.pixels), "--epochs", str(self.epochs)]
        if self.until:
            made += ["--until", self.until]
        else:
            made += ["--agreement", f"{self.agreement:g}"]
            if self.percentile is not None:
                made += ["--percentile", f"{self.percentile:g}"]
        if self.threads is not None:
            made += ["--threads", str(self.threads)]
        return [*made, *_TOLD]


class PatchCourse(Course):
    """The folder of one training from patch labels; see `Course`.

    ``result.json`` has what the last command reported, with ``until`` as it was asked for.
    """

    @property
    def patch_order(self) -> PatchOrder:
        """What was asked for; an `InputError` if it cannot be read."""
        return PatchOrder.read(self.read("order"))

    @property
    def data(self) -> Path:
        """The folder of patches."""
        return self.path / "patches"

    @property
    def reached(self) -> str:
        """``"classifier"`` or ``"outlines"``, whatever was ended last; else nothing."""
        found = self.read("result")
        return "" if not found else str(found.get("until") or "outlines")

    def go_on(self, percentile: float | None, agreement: float) -> None:
        """Ask for all that comes after the classifier, too."""
        order = replace(self.patch_order, until="", percentile=percentile, agreement=agreement)
        self.write("order", order.record())


def patch_courses_folder() -> Path:
    """Return the folder that holds all trainings from patch labels."""
    return home() / "learn-patches"


def patch_courses() -> list[PatchCourse]:
    """Return all trainings from patch labels, the latest first."""
    return [PatchCourse(path) for path in course_folders(patch_courses_folder())]


def begin_patches(order: PatchOrder) -> PatchCourse:
    """Make the folder of a new training from patch labels.

    Raises
    ------
    InputError
        If it cannot be made.
    """
    return PatchCourse(begin_folder(patch_courses_folder(), order.record()))


def refuse_two(launcher: Launcher, but: Course | None) -> None:
    """Raise `InputError` if a training of either kind is at work, other than ``but``."""
    for course in (*courses(), *patch_courses()):
        # A process that has written its last word is only leaving.
        over = course.read("course").get("stage") == "finished"
        if course != but and not over and launcher.alive(course):
            raise InputError(
                f"The training of {course.begun} is running; let it end or stop it first."
            )
