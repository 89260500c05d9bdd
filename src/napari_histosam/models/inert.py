"""Reads torch files that keep a trainer's objects beside the weights, without those objects.

mmengine saves its log buffers with every checkpoint. Here all classes but those of which tensors
are made become `Inert`, which takes whatever it is given and does nothing.
"""

from __future__ import annotations

import collections
import pickle
import zipfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

# Whose objects may lie beside weights; a file with any other's is not opened.
_TRAINERS = ("mmengine", "mmcv", "mmdet", "mmseg", "numpy", "collections", "torch", "datetime")
# Of Python itself, what pickles of these objects name; none of it is ever called.
_BUILTINS = ("getattr", "set", "frozenset", "slice", "complex", "bytearray", "range", "object")
_HELPERS = ("_codecs.encode", "copyreg._reconstructor", "copy_reg._reconstructor")


class Inert:
    """Stands for an object that is not wanted."""

    def __new__(cls, *args: Any, **words: Any) -> Inert:
        """Take whatever the object was made of."""
        return super().__new__(cls)

    def __init__(self, *args: Any, **words: Any) -> None:
        pass

    def __call__(self, *args: Any, **words: Any) -> Inert:
        """Stand for what the object would have returned."""
        return self

    def __setstate__(self, state: Any) -> None:
        """Forget it."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Forget it."""

    def append(self, item: Any) -> None:
        """Forget it."""

    def extend(self, items: Any) -> None:
        """Forget them."""

    def add(self, item: Any) -> None:
        """Forget it."""


def read_inert(path: Path) -> Any:
    """Return what a torch file holds, or None if it may not be read so.

    Parameters
    ----------
    path : Path
        A zip archive as torch writes it.

    Returns
    -------
    object or None
        None where it holds objects of others than the trainers that are known.

    Notes
    -----
    A damaged file raises anything.
    """
    import torch

    with zipfile.ZipFile(path) as archive:
        if any(name.endswith("constants.pkl") for name in archive.namelist()):
            return None  # TorchScript, which is code
    reader = _Reader()
    found = torch.load(
        path, map_location="cpu", weights_only=False, pickle_module=reader, mmap=True
    )
    return None if reader.strange else found


class _Reader:
    """What `torch.load` takes for the module ``pickle``."""

    __name__ = "inert"
    UnpicklingError = pickle.UnpicklingError

    def __init__(self) -> None:
        self.strange: set[str] = set()
        strange, allowed = self.strange, _allowed()

        class Unpickler(pickle.Unpickler):
            def find_class(self, module: str, name: str) -> Any:
                """Return what makes tensors, and `Inert` for all else."""
                known = allowed.get((module, name))
                if known is not None:
                    return known
                top = module.partition(".")[0]
                plain = top in ("builtins", "__builtin__") and name in _BUILTINS
                if not (plain or top in _TRAINERS or f"{module}.{name}" in _HELPERS):
                    strange.add(f"{module}.{name}")
                return Inert

        self.Unpickler = Unpickler

    def load(self, file: Any, **words: Any) -> Any:
        """Read with the same care, where torch asks for it."""
        return self.Unpickler(file, **words).load()


def _allowed() -> dict[tuple[str, str], Any]:
    import torch

    utils: Any = torch._utils
    return {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor"): utils._rebuild_tensor,
        ("torch._utils", "_rebuild_tensor_v2"): utils._rebuild_tensor_v2,
        ("torch._utils", "_rebuild_parameter"): utils._rebuild_parameter,
        ("torch", "Size"): torch.Size,
    }
