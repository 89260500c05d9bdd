"""Does a training from patch labels in a process of its own: makes the model, cuts, trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_histosam.cli.running import DONE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_histosam.viewer.learning.patch_order import PatchCourse

    Command = Callable[[Sequence[str]], tuple[int, dict[str, Any], str]]
    End = Callable[[PatchCourse, int, str], int]


def work(course: PatchCourse, command: Command, end: End) -> int:
    """Do what is left of a training; return the exit status of the command that ended it.

    Parameters
    ----------
    course : PatchCourse
    command : callable
        Runs a command of `histosam`: its arguments → status, JSON, last words.
    end : callable
        Notes that a command did not end well.
    """
    from napari_histosam.models import ModelRegistry

    order = course.patch_order
    course.tell("dataset")
    for line in order.model_arguments(ModelRegistry()):
        status, _, said = command(line)
        if status != DONE:
            return end(course, status, said)
    if not course.read("dataset"):
        status, result, said = command(order.dataset_arguments(course.data))
        if status != DONE:
            return end(course, status, said)
        course.write("dataset", result)
    if course.halted in ("pause", "stop"):
        course.tell("paused", "Paused before the first step.")
        return DONE
    course.tell("train")
    status, result, said = command(order.train_arguments(course.data, course.run))
    if status != DONE:
        return end(course, status, said)
    if result.get("state") != "done":
        course.tell("paused", str(result.get("message", "Paused.")))
        return DONE
    if "name" not in result:
        course.tell("failed", str(result.get("message", "Nothing was learned.")))
        return DONE
    course.write("result", {**result, "until": order.until})
    course.tell("finished", str(result.get("message", "")))
    return DONE
