"""Starts a run's processes with Lightning Fabric, and brings their errors back as sentences.

One device runs in this process. Several on one machine are started from here. Several machines, or
devices started by someone else, need a launcher that starts this program once per device, such as
``torchrun``; Fabric recognises it (and SLURM) by the environment.
"""

from __future__ import annotations

import functools
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_histosam.errors import Cancelled, HistosamError, InputError
from napari_histosam.models.devices import free_memory, is_out_of_memory
from napari_histosam.train.finetune.folder import RunFolder
from napari_histosam.train.finetune.loop import End, Loop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lightning_fabric import Fabric

    from napari_histosam.models.trainable import Trainable
    from napari_histosam.train.finetune.plan import Plan
    from napari_histosam.train.finetune.splits import Division
    from napari_histosam.train.finetune.windows import Sample

Work: TypeAlias = "Callable[[Fabric, Plan, Division, str], None]"
_LAUNCHERS = ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS")


def run(
    plan: Plan, division: Division, base_hash: str, notes: list[str], work: Work | None = None
) -> dict[str, Any]:
    """Run or go on with a plan; return the folder's status.

    Parameters
    ----------
    plan : Plan
    division : Division
    base_hash : str
        ``"sha256:…"`` of the base's weights file.
    notes : list of str
        What the user should know.
    work : callable, optional
        What one process does, if it is not this module's own; then one process does it all.

    Raises
    ------
    InputError
        What the user can mend: data, options, memory, a full disk. ``run.json`` says it, too.
    Cancelled
        If a signal asked to stop; the run is paused then and can be gone on with.
    """
    folder = RunFolder(plan.out)
    folder.make()
    several = plan.devices * plan.nodes > 1
    launched = any(name in os.environ for name in _LAUNCHERS)
    if plan.nodes > 1 and not launched:
        raise InputError(
            f"{plan.nodes} machines need a launcher: run, on each of them, torchrun --nnodes "
            f"{plan.nodes} --nproc-per-node {plan.devices} --rdzv-backend c10d --rdzv-endpoint "
            "FIRST_MACHINE:29500 -m napari_histosam train … with the same options."
        )
    fabric = make_fabric(plan, several, launched)
    first = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0
    if first:
        _write(lambda: folder.begin(plan.record(), notes))
    with _signals(folder) as caught:
        try:
            if several and not launched:
                # Bound, for Fabric looks into arguments and takes no frozen ones.
                fabric.launch(
                    functools.partial(_child, plan=plan, division=division, base_hash=base_hash)
                )
            else:
                fabric.launch()
                (work or _work)(fabric, plan, division, base_hash)
        except BaseException as error:
            raise _told(error, folder, first, plan) from error
    free_memory(fabric.device.type)  # for whoever compares models next
    status = folder.status()
    if caught and status.get("state") == "paused":
        raise Cancelled(status["message"])
    return status


def make_fabric(plan: Plan, several: bool = False, launched: bool = False) -> Fabric:
    """Return a Fabric for a plan: device, processes, and bfloat16 where the device has it.

    Raises
    ------
    InputError
        If there is no such device, or there are fewer of them.
    """
    import torch

    from napari_histosam.models.devices import choose_device, computes_bfloat16

    device = choose_device(plan.accelerator)
    kind = device.name.partition(":")[0]
    if kind == "cuda" and plan.devices > torch.cuda.device_count():
        raise InputError(
            f"{plan.devices} GPUs are asked for and {torch.cuda.device_count()} are here: give "
            "--devices a smaller number, or --accelerator cpu."
        )
    if kind == "mps" and plan.devices > 1:
        raise InputError("There is one Apple GPU: leave --devices away, or give --accelerator cpu.")
    half = computes_bfloat16("cpu") if kind == "cpu" else False
    if kind == "cuda":
        half = torch.cuda.is_bf16_supported(including_emulation=False)
    strategy = "auto" if not several else "ddp" if launched else "ddp_spawn"

    import lightning_fabric

    _quieten()
    return lightning_fabric.Fabric(
        accelerator=kind,
        devices=plan.devices,
        num_nodes=plan.nodes,
        strategy=strategy,
        precision="bf16-mixed" if half else "32-true",
    )


def _child(fabric: Fabric, plan: Plan, division: Division, base_hash: str) -> None:
    """Work in one of several processes; whoever started them hears of a signal."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    _quieten()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _work(fabric, plan, division, base_hash)
    except Exception as error:
        # Whoever started this process gets a trace in words, and no error.
        if isinstance(error, (HistosamError, OSError)) or is_out_of_memory(error):
            raise _told(error, RunFolder(plan.out), True, plan) from error
        raise


def _quieten() -> None:
    """Keep Fabric from telling on stderr what the plan says already."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, so that none writes on alone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _work(fabric: Fabric, plan: Plan, division: Division, base_hash: str) -> None:
    """Do one process's part of a run."""
    import torch

    from napari_histosam.models.registry import ModelRegistry
    from napari_histosam.models.trained import build_trainable
    from napari_histosam.train.finetune.features import Encoded
    from napari_histosam.train.finetune.windows import cut

    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    folder, first = RunFolder(plan.out), fabric.global_rank == 0
    # The same start of adapters in all processes.
    torch.manual_seed(plan.seed)
    model = build_trainable(ModelRegistry(), plan.model, plan.method)
    model.module.to(fabric.device)
    note = folder.note if first else lambda _: None
    train = cut(division.train, model.card, note)
    val = cut(division.val, model.card, note)
    if first:
        _note_classes(folder, division)
    encoded = None
    if plan.method == "decoder":
        encoded = Encoded(model, folder.features, base_hash, fabric.device, fabric.autocast, note)
        mine = [*train, *val][fabric.global_rank :: fabric.world_size]

        def report(done: int) -> None:
            if first:
                folder.tell("running", f"Encoding windows: {done} of {len(mine)} on this device.")

        encoded.prepare(mine, report)
        fabric.barrier()
    about = {"base": model.card.name, "base_hash": base_hash, "method": plan.method}
    loop = Loop(fabric, plan, model, train, val, folder, encoded, about)
    end: End = loop.run()
    fabric.barrier()
    if first and end.state == "done":
        end = _settle(model, train, val, plan, folder, end, about)
    if first:
        how = {"best_epoch": end.best_epoch, "early": end.early}
        folder.tell("paused" if end.state == "paused" else "done", end.message, **how)
        if end.state == "done":
            folder.finished()


def _settle(
    model: Trainable,
    train: Sequence[Sample],
    val: Sequence[Sample],
    plan: Plan,
    folder: RunFolder,
    end: End,
    about: dict[str, str],
) -> End:
    """Teach what learns from the best epoch's answers, and keep it with them."""
    from napari_histosam.models.checkpoint import read_checkpoint
    from napari_histosam.train.finetune.settling import settled

    if end.early and not end.best_epoch:
        return end  # nothing was learned that would be kept
    best = read_checkpoint(folder.best, strip=False)
    if set(best) - set(model.state()):
        return end  # it was done before
    model.restore(best)
    folder.tell("running", "Learning which of several masks a click means.")
    try:
        more, gain = settled(model, train, val, plan.seed, folder.asked_to_stop)
    except Cancelled:
        return replace(end, state="paused", message="Paused before the last part.")
    if not more:
        return end
    folder.save_best({**best, **more}, about)
    told = f"{end.message} Choosing among masks was learned anew (+{gain:.3f} IoU at 1 click)."
    return replace(end, message=told)


def _note_classes(folder: RunFolder, division: Division) -> None:
    """Say which classes can be learned but not judged, or the other way round."""
    taught, judged = (
        {name for entry in part for name in entry.classes.values()}
        for part in (division.train, division.val)
    )
    for names, where in ((taught - judged, "held out"), (judged - taught, "trained on")):
        if names:
            folder.note(
                f"No image that is {where} has the class {', '.join(sorted(names))}: its figures "
                "are missing or say little."
            )


def _write(action: Callable[[], Any]) -> None:
    try:
        action()
    except InputError:
        raise
    except HistosamError as error:
        raise InputError(str(error)) from error
    except OSError as error:
        raise InputError(f"The run's folder cannot be written: {error}.") from error


def _told(error: BaseException, folder: RunFolder, first: bool, plan: Plan) -> BaseException:
    """Return an error as it shall reach the user, and write it down."""
    from torch.multiprocessing.spawn import ProcessExitedException

    if isinstance(error, (Cancelled, KeyboardInterrupt)):
        return error
    said = folder.status()
    if isinstance(error, HistosamError):
        message, wrapped = str(error), InputError(str(error))
    elif isinstance(error, OSError) and not isinstance(error, ConnectionError):
        reason = error.strerror or str(error)
        message = (
            f"{folder.path} cannot be written ({reason}): make room or choose another --out, then "
            "run the same command to go on from the last checkpoint."
        )
        wrapped = InputError(message)
    elif is_out_of_memory(error):
        message = (
            f"There is not enough memory to train {plan.model} by {plan.method}: close other "
            "programs, choose the method decoder or a smaller model, or give --accelerator cpu; "
            "the same options go on from the last checkpoint."
        )
        wrapped = InputError(message)
    elif said.get("state") == "failed":
        # A process of its own told its reason before it ended.
        return InputError(said["message"])
    elif isinstance(error, ProcessExitedException):
        message = (
            "A process of the training was ended from outside, perhaps for want of memory: run the "
            "same command to go on from the last checkpoint."
        )
        wrapped = InputError(message)
    else:
        message = f"The training ended with an unexpected {type(error).__name__}: {error}"
        wrapped = None
    if first:
        folder.fail(message)
    return error if wrapped is None else wrapped


class _signals:
    """Turns Ctrl+C and a request to end into a pause at the next step, while it lasts."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._before: dict[int, Any] = {}
        self._caught: list[int] = []

    def __enter__(self) -> list[int]:
        if threading.current_thread() is threading.main_thread():
            for name in (signal.SIGINT, signal.SIGTERM):
                self._before[name] = signal.signal(name, self._stop)
        return self._caught

    def __exit__(self, *_: object) -> None:
        for name, before in self._before.items():
            signal.signal(name, before)

    def _stop(self, number: int, _: object) -> None:
        if number in self._caught:  # a second time: at once
            raise KeyboardInterrupt
        self._caught.append(number)
        self._folder.ask_to_stop()
