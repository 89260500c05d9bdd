"""The few facts that are needed from OME-XML (OME schema 2016-06): pixel sizes and bit depth."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from napari_histosam.slide.units import as_number, micrometres, plausible_mpp


@dataclass(frozen=True)
class OmeImage:
    """One ``Image`` of an OME document: name, µm per px, significant bits, magnification."""

    name: str
    mpp: tuple[float, float] | None
    bits: int | None
    objective: float | None


def parse_ome(text: str) -> list[OmeImage]:
    """Read every ``Image`` of an OME-XML document; an empty list where it is not one.

    Documents that declare entities are refused: OME-XML has none, attacks do.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return []
    try:
        root = ElementTree.fromstring(text.strip().strip("\0").encode("utf-8"))
    except (ElementTree.ParseError, ValueError):
        return []
    power = {
        _get(o, "ID"): as_number(_get(o, "NominalMagnification"))
        for o in root.iter()
        if _tag(o) == "Objective"
    }
    out = []
    for image in (e for e in root if _tag(e) == "Image"):
        pixels = next((e for e in image if _tag(e) == "Pixels"), None)
        if pixels is None:
            continue
        settings = next((e for e in image if _tag(e) == "ObjectiveSettings"), None)
        bits = as_number(_get(pixels, "SignificantBits"))
        out.append(
            OmeImage(
                name=_get(image, "Name") or "",
                mpp=plausible_mpp(_size(pixels, "X"), _size(pixels, "Y")),
                bits=int(bits) if bits and bits >= 1 else None,
                objective=power.get(_get(settings, "ID")) if settings is not None else None,
            )
        )
    return out


def _size(pixels: ElementTree.Element, axis: str) -> float | None:
    # The schema's default unit is the micrometre.
    unit = _get(pixels, f"PhysicalSize{axis}Unit") or "µm"
    return micrometres(_get(pixels, f"PhysicalSize{axis}"), unit)


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _get(element: ElementTree.Element | None, name: str) -> str | None:
    return None if element is None else element.get(name)
