"""Reads a checkpoint file into plain tensors without ever running code from it."""

from __future__ import annotations

import importlib
import pickle
import zipfile
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

# Names under which trainers put the weights, in the order in which they are looked for.
_WRAPPERS = ("model", "model_state", "state_dict", "model_state_dict", "net", "weights")
# Prefixes of wrappers around a network: data parallel, a trainer's, torch.compile's.
_PREFIXES = ("module.", "_orig_mod.", "model.", "sam.")
# Where texts lie among the notes that torch keeps about a state dict.
LABELS = "napari-histosam"
_MAX_DEPTH = 3


def read_checkpoint(path: Path, *, strip: bool = True) -> dict[str, Tensor]:
    """Return the weights in a file: name to CPU tensor.

    Reads safetensors and torch files (the latter with ``weights_only``, so that nothing in them
    can run; what a trainer of the OpenMMLab family keeps beside them is passed over, see
    `napari_histosam.models.inert`). Takes them out of ``{"model": …}``-like wrappers.

    Parameters
    ----------
    path : Path
    strip : bool
        Also take away a prefix that all names share, such as ``module.`` or ``sam.``.

    Raises
    ------
    InputError
        If there is no such file, or it is truncated, of another kind, or holds more than data.
    """
    raw = _read(path)
    state = _unwrap(raw)
    if not state:
        raise InputError(f"{path} holds no weights: choose the checkpoint file of a model.")
    return strip_prefixes(state) if strip else state


def read_labels(path: Path) -> dict[str, str]:
    """Return the texts that lie beside the weights in a file, by name; few files have any.

    Raises
    ------
    InputError
        As `read_checkpoint`.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as opened:
                return dict(opened.metadata() or {})
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(_not_whole(path)) from error
    raw = _read(path)
    if not isinstance(raw, dict):
        return {}
    noted = getattr(raw, "_metadata", None)
    noted = noted.get(LABELS) if isinstance(noted, dict) else None
    told = {**raw, **noted} if isinstance(noted, dict) else raw
    return {k: v for k, v in told.items() if isinstance(k, str) and isinstance(v, str)}


def strip_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take away the known prefixes that all names share."""
    plain = dict(state)
    found = True
    while found:
        found = False
        for prefix in _PREFIXES:
            if plain and all(key.startswith(prefix) for key in plain):
                plain = {key[len(prefix) :]: value for key, value in plain.items()}
                found = True
    return plain


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor."""
    return {key: tuple(value.shape) for key, value in state.items()}


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            head = file.read(512)
        size = path.stat().st_size
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path} cannot be read ({reason}): check the file's path.") from error
    _refuse_other_kinds(path, head, size)
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return _read_safetensors(path)
    return _read_torch(path)


def _refuse_other_kinds(path: Path, head: bytes, size: int) -> None:
    if size == 0:
        raise InputError(f"{path} is empty: download or copy it again.")
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise InputError(f"{path} is a web page, not weights: download the file itself again.")
    if start.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is only a pointer of Git LFS: fetch the file itself.")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} is no whole safetensors file: download or copy it again."
        ) from error


def _read_torch(path: Path) -> Any:
    import torch

    zipped = zipfile.is_zipfile(path)
    try:
        with torch.serialization.safe_globals(_data_only_globals()):
            # Mapped files are read as they are used; the old format knows no mapping.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        text = str(error)
        if "Unsupported global" in text or "GLOBAL" in text or "not allowed" in text:
            found = _read_inert(path) if zipped else None
            if found is not None:
                return found
            raise InputError(
                f"{path} holds Python objects besides weights, which could run code, and was not "
                "opened: ask its source for a plain state dict or a safetensors file."
            ) from error
        raise InputError(_not_whole(path)) from error
    except Exception as error:  # a foreign file may break the reader in any way
        raise InputError(_not_whole(path)) from error


def _read_inert(path: Path) -> Any:
    from napari_histosam.models.inert import read_inert

    try:
        return read_inert(path)
    except Exception as error:  # as above
        raise InputError(_not_whole(path)) from error


def _not_whole(path: Path) -> str:
    return f"{path} is no checkpoint or is cut off: download or copy it again."


def _data_only_globals() -> list[Any]:
    # What trainers save beside weights and what can hold data only: options, numpy values.
    import argparse

    import numpy as np

    multiarray: Any = importlib.import_module("numpy._core.multiarray")
    kinds = [type(np.dtype(t)) for t in ("f4", "f8", "i4", "i8", "u1", "?")]
    old_names = [  # files written under numpy 1 call the same things by their old address
        (multiarray.scalar, "numpy.core.multiarray.scalar"),
        (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
    ]
    return [
        argparse.Namespace,
        multiarray.scalar,
        multiarray._reconstruct,
        np.ndarray,
        np.dtype,
        *kinds,
        *old_names,
    ]


def _unwrap(raw: Any, depth: int = 0) -> dict[str, Tensor]:
    from torch import Tensor

    if not isinstance(raw, dict):
        return {}
    if depth < _MAX_DEPTH:
        for name in _WRAPPERS:
            if isinstance(raw.get(name), dict):
                inner = _unwrap(raw[name], depth + 1)
                if inner:
                    return inner
    return {k: v for k, v in raw.items() if isinstance(k, str) and isinstance(v, Tensor)}
