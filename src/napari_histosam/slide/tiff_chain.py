"""Finds out whether a TIFF file was cut short, by following its chain of directories."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MOST = 10_000


def chain_is_broken(path: Path) -> bool:
    """Tell whether a directory of a TIFF or BigTIFF (TIFF 6.0, section 2) lies past the file's end.

    Hamamatsu's NDPI stores 64-bit positions in a classic TIFF; files with its tag are not judged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = struct.unpack(order + "H", head[2:4])[0] == 43
        offset_code, count_code, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
        width, count_width = struct.calcsize(offset_code), struct.calcsize(count_code)
        at = head[8:16] if big else head[4:8]
        if len(at) < width:
            return True
        (position,) = struct.unpack(order + offset_code, at)
        seen: set[int] = set()
        while position and position not in seen and len(seen) < _MOST:
            seen.add(position)
            file.seek(position)
            raw = file.read(count_width)
            if len(raw) < count_width:
                return True
            (count,) = struct.unpack(order + count_code, raw)
            if position + count_width + count * entry + width > size:
                return True
            entries = file.read(count * entry)
            tags = {
                struct.unpack_from(order + "H", entries, i * entry)[0] for i in range(int(count))
            }
            if 65420 in tags:
                return False
            (position,) = struct.unpack(order + offset_code, file.read(width))
    return False
