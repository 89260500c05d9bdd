"""Chooses the device that a model runs on, and steps down when its memory runs out."""

from __future__ import annotations

import gc
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from napari_histosam.errors import HistosamError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Device:
    """A device and what to tell the user about it.

    Parameters
    ----------
    name : str
        As torch calls it: ``"cuda"``, ``"cuda:1"``, ``"mps"`` or ``"cpu"``.
    message : str
        One sentence for people.
    """

    name: str
    message: str


def choose_device(wish: str = "auto") -> Device:
    """Return the device to use.

    Parameters
    ----------
    wish : str
        ``"auto"`` takes CUDA, else Apple's MPS, else the CPU; any other name is taken as it is.

    Raises
    ------
    InputError
        If the wished device is not there.
    """
    import torch

    has_cuda = torch.cuda.is_available()
    has_mps = torch.backends.mps.is_available()
    if wish == "auto":
        if has_cuda:
            return Device("cuda", f"Running on the GPU {torch.cuda.get_device_name(0)}")
        if has_mps:
            return Device("mps", "Running on the Apple GPU")
        return Device("cpu", "No GPU found: running on CPU")
    kind, _, index = wish.partition(":")
    there = {"cpu": not index, "mps": has_mps and not index, "cuda": has_cuda}
    if kind == "cuda" and index:
        there["cuda"] = index.isdigit() and has_cuda and int(index) < torch.cuda.device_count()
    if kind not in there:
        raise InputError(f"Device {wish!r} is unknown: choose auto, cpu, cuda or mps.")
    if not there[kind]:
        raise InputError(f"Device {wish!r} is not on this machine: choose auto or cpu.")
    return Device(wish, f"Running on {wish}, as asked")


def computes_bfloat16(device: str) -> bool:
    """Tell whether a device computes bfloat16 in hardware, and so faster than float32.

    For CPUs only (x86 with AVX512-BF16 or AMX): GPUs are quick enough with float32.
    """
    import torch

    if device != "cpu":
        return False
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    probes = [getattr(torch.cpu, name, None) for name in names]
    return any(probe is not None and probe() for probe in probes)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that a device's memory ran out."""
    import torch

    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    # MPS and the CPU allocator raise a plain RuntimeError.
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
    )


def with_fallback(
    run: Callable[[str, int], T],
    device: str,
    batch: int = 1,
    say: Callable[[str], None] | None = None,
) -> tuple[T, str, int]:
    """Run work and step down when memory runs out: half the batch, again, then the CPU.

    Parameters
    ----------
    run : callable of (device, batch) -> result
        Is called again from the start after a failure, so it must not keep half-done state.
    device : str
    batch : int
        Items per step to start with.
    say : callable of str, optional
        Gets one sentence per step down; without it the sentence is logged.

    Returns
    -------
    result, device, batch
        The last two as they worked; start the next run with them.

    Raises
    ------
    HistosamError
        If even the CPU has not enough memory.
    """
    tell = say or _log.warning
    while True:
        try:
            return run(device, batch), device, batch
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            error.__traceback__ = None  # its frames hold the tensors that must go
        free_memory(device)
        if batch > 1:
            batch //= 2
            tell(f"Not enough memory on {device}: going on with smaller batches ({batch}).")
        elif device != "cpu":
            tell(f"Not enough memory on {device}: going on on the CPU, which is slower.")
            device = "cpu"
        else:
            raise HistosamError(
                "This computer has not enough free memory for the model: close other programs or "
                "pick a smaller model, for example mobile-sam."
            )


def free_memory(device: str) -> None:
    """Give back what nothing uses any more, such as a failed attempt's tensors."""
    import torch

    gc.collect()
    if device.startswith("cuda") and torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif device.startswith("mps") and torch.backends.mps.is_available():
        torch.mps.empty_cache()


def once_more(run: Callable[[], T], device: str) -> T:
    """Return what a call returns; if memory runs out, free what can be freed and call again.

    Parameters
    ----------
    run : callable
        It must not keep half-done state.
    device : str
    """
    try:
        return run()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        error.__traceback__ = None  # its frames hold the tensors that must go
    free_memory(device)
    return run()


def threads() -> int:
    """Return how many CPU threads a model may use."""
    import torch

    return torch.get_num_threads()


def use_threads(count: int) -> None:
    """Have models use so many CPU threads in this process.

    Raises
    ------
    InputError
        If it is no positive number.
    """
    import torch

    if count < 1:
        raise InputError(f"{count} threads are too few: give 1 or more.")
    torch.set_num_threads(count)
