"""Starts trainings beside the window, pauses them, stops them, has them go on."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Literal

import psutil

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from napari_histosam.viewer.learning.course import Course

_MODULE = "napari_histosam.cli.course"
# Seconds that a process which has done its work may take to end.
_LEAVING = 10.0


class Launcher:
    """Trainings of one window. They outlive it: another window finds them by their folders."""

    def __init__(self) -> None:
        self._mine: dict[Course, subprocess.Popen] = {}

    def start(self, course: Course) -> None:
        """Start a training, or have it go on.

        Raises
        ------
        InputError
            If no process can be started, or one is at work on it.
        """
        self._let_leave(course)
        if self.alive(course):
            raise InputError("This training is running already; pause it first.")
        course.halt(None)
        course.write("course", {"stage": "starting", "message": ""})
        try:
            with course.log.open("ab") as log:
                made = self._mine[course] = subprocess.Popen(
                    [sys.executable, "-m", _MODULE, str(course.path)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    **_apart(),
                )
        except OSError as error:
            reason = error.strerror or str(error)
            course.write("course", {"stage": "failed", "message": reason})
            raise InputError(f"The training could not be started ({reason}); try again.") from error
        # Until it says so itself, other windows shall know that it is at work.
        with contextlib.suppress(psutil.Error):
            born = psutil.Process(made.pid).create_time()
            if course.read("course").get("stage") == "starting":
                course.write(
                    "course",
                    {"stage": "starting", "message": "", "pid": made.pid, "born": born},
                )

    def _let_leave(self, course: Course) -> None:
        """Wait for a process that has written its last word: it is gone in a moment."""
        if course.read("course").get("stage") != "finished":
            return
        mine = self._mine.get(course)
        with contextlib.suppress(subprocess.TimeoutExpired, psutil.Error):
            if mine is not None:
                mine.wait(_LEAVING)
            elif (found := course.process()) is not None:
                found.wait(_LEAVING)

    def alive(self, course: Course) -> bool:
        """Tell whether a process works on a training."""
        mine = self._mine.get(course)
        if mine is not None:
            if mine.poll() is None:
                return True
            del self._mine[course]
        return course.process() is not None

    def pause(self, course: Course) -> None:
        """Have a training pause at its next step."""
        self._halt(course, "pause")

    def finish(self, course: Course) -> None:
        """Have a training end at its next step with what it has learned so far.

        Raises
        ------
        InputError
            If it is not at its steps.
        """
        if not (self.alive(course) and _steps(course)):
            raise InputError("Nothing has been learned yet, or the steps are over: let it run on.")
        course.halt("finish")

    def stop(self, course: Course) -> None:
        """Have a training end without a model; its folder stays as it is."""
        self._halt(course, "stop")

    def _halt(self, course: Course, kind: Literal["pause", "stop"]) -> None:
        course.halt(kind)
        if self.alive(course) and not _steps(course):
            # Only steps look for a wish to stop; before and after them everything that is
            # finished is on disk, and what is not is done again.
            self._end(course)

    def _end(self, course: Course) -> None:
        mine = self._mine.get(course)
        if mine is not None:
            mine.kill()
            return
        found = course.process()
        if found is not None:
            try:
                found.kill()
            except psutil.Error as error:
                raise InputError("The training could not be ended; try again.") from error


def _steps(course: Course) -> bool:
    """Tell whether a training is at its steps."""
    if course.read("course").get("stage") != "train":
        return False
    said = course.read("run/run")
    return said.get("state") == "running" and "step" in said


def _apart() -> dict:
    """Return what keeps a process going when the window's terminal or session ends."""
    if os.name == "nt":
        return {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined]
    return {"start_new_session": True}
