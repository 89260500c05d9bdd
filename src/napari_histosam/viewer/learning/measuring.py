"""Measures in a process of its own, like a training's, what a training costs on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from napari_histosam.errors import InputError
from napari_histosam.train.finetune.costs import Costs
from napari_histosam.viewer.learning import ledger
from napari_histosam.viewer.learning.order import method_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_histosam.models import ModelRegistry

_PREFIX = "histosam: "
# Bytes of memory that are left to everything else while a trial runs, and s between two looks.
_RESERVE, _LOOK = 400e6, 0.1


@dataclass(frozen=True)
class Trouble:
    """Why the costs of a training could not be measured.

    Parameters
    ----------
    text : str
        One sentence.
    memory : bool
        Whether the training does not fit into memory.
    """

    text: str
    memory: bool


def costs_of(
    registry: ModelRegistry,
    model: str,
    method: str,
    threads: int | None,
    step: Callable[[], None],
    command: Sequence[str] | None = None,
) -> Costs | Trouble:
    """Return the costs of a training, from the ledger or measured now.

    Parameters
    ----------
    registry : ModelRegistry
    model, method : str
    threads : int, optional
        CPU threads that the training will have.
    step : callable
        Called every tenth of a second; may raise to stop.
    command : sequence of str, optional
        What measures; for tests.
    """
    try:
        key = ledger.key_of(registry, model, method, threads)
    except InputError as error:
        return Trouble(str(error), memory=False)
    known = ledger.recall(key)
    if known is not None:
        return known
    found = _measure(command or _command(model, method, threads), model, method, step)
    if isinstance(found, Costs):
        ledger.keep(key, found)
    return found


def _command(model: str, method: str, threads: int | None) -> list[str]:
    made = [sys.executable, "-m", "napari_histosam", "train", "--probe", "--json"]
    made += ["--model", model, *method_arguments(method)]
    return made if threads is None else [*made, "--threads", str(threads)]


def _measure(
    command: Sequence[str], model: str, method: str, step: Callable[[], None]
) -> Costs | Trouble:
    hidden = subprocess.CREATE_NO_WINDOW if os.name == "nt" else 0  # type: ignore[attr-defined]
    # Files, since a pipe that nobody reads would hold the process up.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=said,
                creationflags=hidden,
            )
        except OSError as error:
            return Trouble(f"It could not be measured ({error.strerror or error}).", memory=False)
        try:
            full = _wait(process, step)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        out.seek(0)
        said.seek(0)
        words = said.read().decode("utf-8", "replace")
        text = out.read().decode("utf-8", "replace")
    # Killed by someone else: on Linux that is mostly the system, for want of memory.
    if full or process.returncode == -9:
        return Trouble(_too_large(model, method), memory=True)
    if process.returncode == 0:
        try:
            return Costs.read(json.loads(text)["costs"])
        except (ValueError, KeyError, TypeError, InputError):
            return Trouble("It could not be measured: the trial gave no figures.", memory=False)
    lines = [line for line in words.splitlines() if line.startswith(_PREFIX)]
    reason = lines[-1].removeprefix(_PREFIX) if lines else f"status {process.returncode}"
    if "not enough memory" in reason.lower():
        return Trouble(_too_large(model, method), memory=True)
    return Trouble(f"It could not be measured: {reason}", memory=False)


def _wait(process: subprocess.Popen, step: Callable[[], None]) -> bool:
    """Wait for the end of a trial; return whether it was ended because memory ran out."""
    if os.name != "nt":
        with contextlib.suppress(psutil.Error):
            psutil.Process(process.pid).nice(10)
    while True:
        try:
            process.wait(_LOOK)
            return False
        except subprocess.TimeoutExpired:
            step()
        if psutil.virtual_memory().available < _RESERVE:
            # Before the system ends a process of its own choice: that could be the window.
            return True


def _too_large(model: str, method: str) -> str:
    free = psutil.virtual_memory().available / 1e9
    way = "the method Decoder only or a smaller model" if method != "decoder" else "a smaller model"
    return (
        f"{model} by this method will not fit into memory here ({free:.1f} GB are free): choose "
        f"{way}, or close other programs."
    )
