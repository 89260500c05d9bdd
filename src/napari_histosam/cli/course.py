"""Does one training of the app in a process of its own: builds the data set, trains, compares.

``python -m napari_histosam.cli.course FOLDER``; the folder holds the order (see
`napari_histosam.viewer.learning.course`). Called again, it goes on where it was.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from napari_histosam.cli import patch_course
from napari_histosam.cli.running import DONE, STOPPED, run
from napari_histosam.errors import HistosamError
from napari_histosam.viewer.learning.course import Course, courses
from napari_histosam.viewer.learning.patch_order import KIND, PatchCourse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_histosam.viewer.learning.order import Order

_PREFIX = "histosam: "


def work(folder: Path) -> int:
    """Do what is left of a training; return the exit status of the command that ended it."""
    course = Course(folder)
    # The window shall stay quick, whatever is computed here.
    with contextlib.suppress(AttributeError, OSError):
        os.nice(10)
    if course.read("order").get("kind") == KIND:
        return patch_course.work(PatchCourse(folder), _command, _end)
    order = course.order
    begun = None if course.run.exists() else time.monotonic()
    if not course.read("dataset"):
        course.tell("dataset")
        _inherit(course)
        status, result, said = _command(order.dataset_arguments(course.data))
        if status != DONE:
            return _end(course, status, said)
        course.write("dataset", result)
    if course.halted in ("pause", "stop"):
        course.tell("paused", "Paused before the first step.")
        return DONE
    course.tell("train")
    status, result, said = _command(order.train_arguments(course.data, course.run))
    if status != DONE:
        return _end(course, status, said)
    if "verdict" not in result and result.get("state") == "done":
        # It was ended before it got any better; there is nothing to compare.
        course.tell("failed", str(result["message"]))
        return DONE
    if "verdict" not in result:
        course.tell("paused", str(result.get("message", "Paused.")))
        return DONE
    course.write("result", {k: v for k, v in result.items() if k not in ("results", "plan")})
    if begun is not None:
        _note_costs(course, order, time.monotonic() - begun)
    course.tell("finished", str(result.get("message", "")))
    return DONE


def _note_costs(course: Course, order: Order, whole: float) -> None:
    """Put what a training took, which ran in one go, in the place of what a trial has shown."""
    from napari_histosam.models import ModelRegistry
    from napari_histosam.train.finetune.costs import peak_gigabytes
    from napari_histosam.train.finetune.folder import RunFolder
    from napari_histosam.viewer.learning import ledger
    from napari_histosam.viewer.learning.estimate import work_done

    registry = ModelRegistry()
    with contextlib.suppress(HistosamError):
        key = ledger.key_of(registry, order.model, order.method, order.threads)
        known = ledger.recall(key)
        epochs = [row for row in RunFolder(course.run).rows() if row.get("kind") == "epoch"]
        if known is None or len(epochs) < 2:
            return
        spent = float(epochs[-1]["seconds"]) - float(epochs[0]["seconds"])
        splits = course.read("dataset").get("splits", {})
        work = work_done(registry.get(order.model), splits, len(epochs) - 1)
        ledger.keep(key, known.corrected(work, whole, spent, peak_gigabytes(known.device)))


def _inherit(course: Course) -> None:
    """Begin with the data set of the last training that shares a slide.

    So slides stay in their splits, and a model made of a model is not judged by what it has
    learned from.
    """
    if course.data.exists():
        return
    sources = set(course.order.sources)
    for other in courses():
        if other == course or not other.read("dataset"):
            continue
        if sources & set(other.order.sources) and other.data.is_dir():
            part = course.path / "inherited"
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(other.data, part, copy_function=_link)
            part.rename(course.data)
            return


def _link(source: str, target: str) -> None:
    """Share a file that nobody changes in place; copy it where the disk cannot share."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _command(arguments: Sequence[str]) -> tuple[int, dict[str, Any], str]:
    """Run a command of `histosam`; return its status, its JSON, and its last words."""
    out, heard = io.StringIO(), _Heard(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(heard):
        status = run(arguments)
    result = json.loads(out.getvalue()) if status == DONE else {}
    return status, result, heard.last


def _end(course: Course, status: int, said: str) -> int:
    if status == STOPPED:
        course.tell("paused", "Paused.")
    else:
        course.tell("failed", said or "The training ended without a reason.")
    return status


class _Heard(io.TextIOBase):
    """Passes text on to a stream and keeps what the command said last."""

    def __init__(self, to: TextIO) -> None:
        self._to, self._line = to, ""
        self.last = ""

    def write(self, text: str) -> int:
        self._to.write(text)
        self._to.flush()
        *whole, self._line = (self._line + text).split("\n")
        for line in whole:
            if line.startswith(_PREFIX):
                self.last = line.removeprefix(_PREFIX)
        return len(text)

    def isatty(self) -> bool:
        return False


def main(argv: Sequence[str]) -> int:
    """Work on the folder that is named; whatever goes wrong is written into it."""
    folder = Path(argv[0])
    try:
        return work(folder)
    except Exception as error:
        with contextlib.suppress(HistosamError, OSError):
            Course(folder).tell("failed", f"The training ended unexpectedly ({error}).")
        raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
