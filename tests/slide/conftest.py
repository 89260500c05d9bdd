"""Slides for the tests: the shipped sample, the shared folder where it is, and files made here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTOSAM_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def sample() -> Path:
    return REPO / "sample_data" / "CMU-1-Small-Region.svs"


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = REPO.parent / "shared" / "data" / "slides"
    if not folder.is_dir():
        pytest.skip(f"the shared slides are not here ({folder})")
    return folder


@pytest.fixture(scope="session")
def tissue(sample: Path) -> np.ndarray:
    """A 700 x 611 piece of real tissue."""
    import openslide

    with openslide.OpenSlide(sample) as slide:
        return np.asarray(slide.read_region((300, 900), 0, (611, 700)).convert("RGB"))


@pytest.fixture(scope="session")
def halves(tissue: np.ndarray) -> list[np.ndarray]:
    """The tissue and its x2 and x4 reductions (an odd last row or column dropped)."""
    out = [tissue]
    for _ in range(2):
        h, w = (n // 2 for n in out[-1].shape[:2])
        four = out[-1][: 2 * h, : 2 * w].reshape(h, 2, w, 2, 3).mean(axis=(1, 3))
        out.append(np.floor(four + 0.5).astype(np.uint8))
    return out


@pytest.fixture(scope="session")
def ome_pyramid(tmp_path_factory: pytest.TempPathFactory, halves: list[np.ndarray]) -> Path:
    """An OME-BigTIFF with its pyramid in SubIFDs, mpp 0.25 x 0.5."""
    import tifffile

    path = tmp_path_factory.mktemp("ome") / "made.ome.tif"
    with tifffile.TiffWriter(path, ome=True, bigtiff=True) as tif:
        options: dict[str, Any] = {"photometric": "rgb", "tile": (128, 128), "compression": "zlib"}
        meta = {
            "axes": "YXS",
            "PhysicalSizeX": 250.0,
            "PhysicalSizeXUnit": "nm",
            "PhysicalSizeY": 0.0005,
            "PhysicalSizeYUnit": "mm",
        }
        tif.write(halves[0], subifds=2, metadata=meta, **options)
        for level in halves[1:]:
            tif.write(level, subfiletype=1, **options)
    return path


@pytest.fixture(scope="session")
def ome_zarrs(
    tmp_path_factory: pytest.TempPathFactory, halves: list[np.ndarray]
) -> dict[str, Path]:
    """OME-Zarr 0.4 as t, c, z, y, x and 0.5 as c, y, x, both of the tissue's pyramid."""
    import zarr

    folder = tmp_path_factory.mktemp("zarr")
    out = {}
    for version, axes in (("0.4", "tczyx"), ("0.5", "cyx")):
        kinds = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
        units = {"z": "micrometer", "y": "nanometer", "x": "micrometer"}
        described = [
            {"name": a, "type": kinds[a], **({"unit": units[a]} if a in units else {})}
            for a in axes
        ]
        path = folder / f"v{version}.ome.zarr"
        group = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
        datasets = []
        for i, level in enumerate(halves):
            data = level.transpose(2, 0, 1)
            data = data[None, :, None] if "t" in axes else data
            chunks = (1, 1, 1, 128, 128) if "t" in axes else (3, 100, 90)
            group.create_array(str(i), data=data, chunks=chunks)
            scale = {"t": 1.0, "c": 1.0, "z": 2.0, "y": 500.0 * 2**i, "x": 0.25 * 2**i}
            change = {"type": "scale", "scale": [scale[a] for a in axes]}
            datasets.append({"path": str(i), "coordinateTransformations": [change]})
        image = {"axes": described, "datasets": datasets, "name": "made"}
        if version == "0.4":
            group.attrs["multiscales"] = [{"version": "0.4", **image}]
        else:
            group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
        out[version] = path
    return out
