"""The folder of one training: what was asked for, how far it has come, what was decided.

``order.json``     what was asked for
``course.json``    the stage, and the process at work; written by that process
``halt.json``      put there by the window: a pause, a finish, or a stop
``decision.json``  whether the result is used
``log.txt``        what the process said
``dataset.json``, ``result.json``  what the two commands reported
``DATA/``          the data set
``run/``           the run, see `napari_histosam.train.finetune.folder`
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import psutil

from napari_histosam.errors import HistosamError, InputError
from napari_histosam.home import home
from napari_histosam.models.files import write_bytes_atomic
from napari_histosam.records import now
from napari_histosam.viewer.learning.order import Order

if TYPE_CHECKING:
    from pathlib import Path

Stage = Literal["starting", "dataset", "train", "paused", "finished", "failed"]
Halt = Literal["pause", "finish", "stop"]
"""To go on later; to end with what was learned so far; to give it up."""
# Seconds by which clocks of the same process may differ.
_CLOCK = 2.0


class Course:
    """One training's folder.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = path / "run"
        self.log = path / "log.txt"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Course) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    @property
    def order(self) -> Order:
        """What was asked for; an `InputError` if it cannot be read."""
        return Order.read(self.read("order"))

    @property
    def data(self) -> Path:
        """The data set's folder."""
        return self.path / self.order.data

    @property
    def begun(self) -> str:
        """When it was asked for, for people: ``25 Nov, 14:03``."""
        made = datetime.strptime(self.path.name[:15], "%Y%m%d-%H%M%S")
        return f"{made.day} {made:%b, %H:%M}"

    def read(self, what: str) -> dict[str, Any]:
        """Return one of the JSON files, or nothing where it is not there."""
        try:
            found = json.loads((self.path / f"{what}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, what: str, data: dict[str, Any]) -> None:
        """Write one of the JSON files, whole or not at all."""
        write_bytes_atomic(self.path / f"{what}.json", json.dumps(data, indent=1).encode())

    def tell(self, stage: Stage, message: str = "") -> None:
        """Say how far it has come; called by the process that works."""
        me = psutil.Process(os.getpid())
        said = {"pid": me.pid, "born": me.create_time(), "updated": now()}
        self.write("course", {"stage": stage, "message": message, **said})

    def halt(self, kind: Halt | None) -> None:
        """Note that the user wants it to end before its time; None takes it back."""
        if kind is None:
            (self.path / "halt.json").unlink(missing_ok=True)
            for name in ("stop", "finish"):
                (self.run / name).unlink(missing_ok=True)
            return
        self.write("halt", {"kind": kind, "at": now()})
        if self.run.is_dir():
            (self.run / ("finish" if kind == "finish" else "stop")).touch()

    @property
    def halted(self) -> str:
        """``"pause"``, ``"finish"``, ``"stop"`` or nothing."""
        return str(self.read("halt").get("kind", ""))

    def process(self) -> psutil.Process | None:
        """Return the process that works on it, or None where none does any more."""
        said = self.read("course")
        try:
            found = psutil.Process(int(said["pid"]))
            same = abs(found.create_time() - float(said["born"])) < _CLOCK
            return found if same and found.status() != psutil.STATUS_ZOMBIE else None
        except (psutil.Error, KeyError, TypeError, ValueError):
            return None


def courses_folder() -> Path:
    """Return the folder that holds all trainings."""
    return home() / "learn"


def courses() -> list[Course]:
    """Return all trainings from objects, the latest first."""
    return [Course(path) for path in course_folders(courses_folder())]


def course_folders(folder: Path) -> list[Path]:
    """Return the folders of trainings in a folder, the latest first."""
    found = sorted(folder.glob("*/order.json"), reverse=True) if folder.is_dir() else []
    return [path.parent for path in found if _dated(path.parent.name)]


def begin(order: Order) -> Course:
    """Make the folder of a new training.

    Raises
    ------
    InputError
        If it cannot be made.
    """
    return Course(begin_folder(courses_folder(), order.record()))


def begin_folder(folder: Path, record: dict[str, Any]) -> Path:
    """Make the folder of a new training in a folder of trainings; see `begin`.

    Parameters
    ----------
    folder : Path
    record : dict
        The order, ready for JSON.
    """
    stem, number = f"{datetime.now():%Y%m%d-%H%M%S}", 2
    name = stem
    try:
        while True:
            try:
                (folder / name).mkdir(parents=True)
                break
            except FileExistsError:
                name, number = f"{stem}-{number}", number + 1
        made = Course(folder / name)
        made.write("order", record)
    except (OSError, HistosamError) as error:
        raise InputError(
            f"No folder for the training can be made in {folder} "
            f"({getattr(error, 'strerror', None) or error}): make room, or have it writable."
        ) from error
    return made.path


def _dated(name: str) -> bool:
    try:
        datetime.strptime(name[:15], "%Y%m%d-%H%M%S")
    except ValueError:
        return False
    return True
