"""What a folder of labelled patches is to be like, and what has become of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class PatchRequest:
    """What to write.

    Parameters
    ----------
    out : Path
    slides : tuple of Path
    size : int
        Side of a picture in px.
    mpp : float, optional
        Its µm per px: a patch is ``mpp * size`` µm wide. None for slides without µm: a patch is
        then as many level-0 px wide as the picture.
    patients : mapping of str to str
        Slide → patient, ahead of what the stores say.
    val, test : float
        Shares of the slides (or patients).
    seed : int
    licence : str
        A note for the manifest.

    Raises
    ------
    InputError
        If a value is out of its range.
    """

    out: Path
    slides: tuple[Path, ...]
    size: int = 512
    mpp: float | None = None
    patients: Mapping[str, str] = field(default_factory=dict, hash=False)
    val: float = 0.15
    test: float = 0.15
    seed: int = 0
    licence: str = ""

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 8192:
            raise InputError(f"A patch is 16 to 8192 px wide, not {self.size}; change --size.")
        if self.mpp is not None and not 0 < self.mpp < math.inf:
            raise InputError(f"{self.mpp} µm per px is no scale; change --mpp.")
        if not (self.val >= 0 and self.test >= 0 and self.val + self.test < 1):
            raise InputError(
                f"The shares {self.val} for validation and {self.test} for test leave nothing to "
                "train on; make them smaller."
            )

    @property
    def side(self) -> float:
        """Side of a patch: µm, or level-0 px without ``mpp``."""
        return self.size * (self.mpp or 1.0)


@dataclass(frozen=True)
class PatchReport:
    """What was written.

    Parameters
    ----------
    out : Path
    slides : int
    counts : mapping of str to mapping
        Split → label → how many.
    added, kept, removed : int
        Pictures that are new, the same as before, and gone.
    warnings : tuple of str
        One sentence each.
    seconds : float
    """

    out: Path
    slides: int
    counts: Mapping[str, Mapping[str, int]]
    added: int
    kept: int
    removed: int
    warnings: tuple[str, ...]
    seconds: float

    @property
    def patches(self) -> int:
        """Pictures in all."""
        return sum(sum(one.values()) for one in self.counts.values())

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return {
            "out": str(self.out),
            "slides": self.slides,
            "patches": self.patches,
            "splits": {name: dict(one) for name, one in self.counts.items()},
            "added": self.added,
            "kept": self.kept,
            "removed": self.removed,
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3),
        }

    def text(self) -> str:
        """Return a few lines for people."""
        rows = [
            f"{self.patches} patches of {self.slides} slide{'s' * (self.slides != 1)} in {self.out}"
        ]
        for name, one in self.counts.items():
            rows.append(f"  {name}: {one['tumour']} tumour, {one['normal']} normal")
        return "\n".join([*rows, *self.warnings])
