"""Pixel sizes: units to µm, and which values are worth believing."""

from __future__ import annotations

import math
from typing import Any

MIN_MPP, MAX_MPP = 0.01, 1000.0

_MICROMETRES = {
    "µm": 1.0,
    "μm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "nanometre": 1e-3,
    "pm": 1e-6,
    "picometer": 1e-6,
    "å": 1e-4,
    "angstrom": 1e-4,
    "mm": 1e3,
    "millimeter": 1e3,
    "millimetre": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "centimetre": 1e4,
    "m": 1e6,
    "meter": 1e6,
    "metre": 1e6,
    "in": 25400.0,
    "inch": 25400.0,
}

# What cameras, paint programs and printers write where nobody measured a pixel.
_PAPER_DPI = {1, 72, 75, 90, 96, 100, 120, 144, 150, 180, 200, 240, 300, 350, 400, 600, 720, 1200}


def micrometres(value: Any, unit: str | None) -> float | None:
    """Convert a length to µm; None where the value or its unit is of no use."""
    number = as_number(value)
    factor = _MICROMETRES.get((unit or "").strip().lower())
    return None if number is None or factor is None else number * factor


def as_number(value: Any) -> float | None:
    """Read a number from text or number, with a decimal comma too; None where there is none."""
    try:
        number = float(str(value).strip().replace(",", "."))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def plausible_mpp(x: Any, y: Any) -> tuple[float, float] | None:
    """Return (x, y) in µm per px where at least one is believable; the other then equals it.

    Missing, zero, negative, not finite, or outside 0.01 to 1000 µm is not believable.
    """
    good = [n if n and MIN_MPP <= n <= MAX_MPP else None for n in (as_number(x), as_number(y))]
    if good[0] is None and good[1] is None:
        return None
    return (good[0] or good[1] or 0.0, good[1] or good[0] or 0.0)


def mpp_from_density(x: Any, y: Any, per_um: float) -> tuple[float, float] | None:
    """Turn px per unit (a unit of ``per_um`` µm) into µm per px.

    Paper resolutions such as 72 or 300 dpi say nothing about a microscope: they give None.
    """
    densities = [as_number(x), as_number(y)]
    for density in densities:
        if density is not None and density > 0:
            dpi = density * 25400.0 / per_um
            if abs(dpi - round(dpi)) < 0.02 and round(dpi) in _PAPER_DPI:
                return None
    sizes = [per_um / d if d is not None and d > 0 else None for d in densities]
    return plausible_mpp(*sizes)
