"""WSI-SAM and I-MedSAM on the command line: from files and labelled images to objects on a slide.

Weights are random, which changes nothing of the way that they take.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from napari_histosam import Session, open_slide
from napari_histosam.cli import main
from napari_histosam.models import ModelRegistry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIZE = (90, 96)
# x, y, radius of the objects of each picture; the last picture is held out.
DISCS = (((26, 30, 12), (70, 62, 14)), ((31, 30, 12), (64, 58, 14)), ((36, 32, 12), (70, 62, 13)))


def random_sam(variant: str) -> dict:
    """Return weights of a SAM that knows nothing and answers finite numbers."""
    import torch

    from napari_histosam.models.sam.build import build_sam, published_names

    torch.manual_seed(0)
    sam, out = build_sam(variant), {}
    for name, ours in published_names(sam).items():
        value = sam.state_dict()[ours]
        if value.ndim >= 2:
            out[name] = torch.randn_like(value) / math.sqrt(math.prod(value.shape[1:]))
        elif value.dtype == torch.float32:
            out[name] = torch.full_like(value, float(name.endswith(("weight", "running_var"))))
        else:
            out[name] = torch.zeros_like(value)
    return out


def wsi_sam_files(folder: Path) -> list[Path]:
    """Write the three files of a WSI-SAM without knowledge."""
    import torch

    from napari_histosam.models.wsi_sam.load import fresh_decoder, save_decoder

    sam = random_sam("vit_t")
    files = [folder / name for name in ("mobile_sam.pt", "net_high.pth", "net_low.pth")]
    torch.save(sam, files[0])
    for path, side in zip(files[1:], ("high", "low"), strict=True):
        save_decoder(fresh_decoder(sam), side, path)
    return files


def i_medsam_files(folder: Path, side: int = 384) -> list[Path]:
    """Write the two files of an I-MedSAM without knowledge, for windows of a side."""
    import torch

    from napari_histosam.models.i_medsam.load import fresh_adapted, save_adapted
    from napari_histosam.models.parts import SETTINGS

    sam = random_sam("vit_b")
    files = [folder / "sam_vit_b_01ec64.pth", folder / "model_latest.pth"]
    torch.save(sam, files[0])
    told = {"window_px": side, "object_px": [0.3 * side, 0.7 * side]}
    save_adapted(fresh_adapted(sam), files[1], labels={SETTINGS: json.dumps(told)})
    return files


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three pictures with two discs each, one of them held out."""
    rng, items = np.random.default_rng(0), []
    folder = tmp_path / "own" / "discs"
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for name, discs in zip("abc", DISCS, strict=True):
        image, labels = np.full((*SIZE, 3), (228, 190, 212), float), np.zeros(SIZE, np.uint8)
        for label, (x, y, radius) in enumerate(discs, 1):
            inside = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
            image[inside], labels[inside] = (150, 110, 170), label
        image = (image + rng.normal(0, 10, image.shape)).clip(0, 255).astype(np.uint8)
        item = {"id": name, "image": f"images/{name}.png", "mask": f"masks/{name}.png"}
        cv2.imwrite(str(folder / item["image"]), image[..., ::-1])
        cv2.imwrite(str(folder / item["mask"]), labels)
        items.append({**item, "mask_kind": "instance", "mpp": None})
    (folder / "index.json").write_text(json.dumps({"items": items}), "utf-8")
    splits = {"sets": {"discs": {"train": ["a", "b"], "val": ["c"]}}}
    (folder.parent / "splits.json").write_text(json.dumps(splits), "utf-8")
    return folder.parent


def prompt_file(path: Path, box_only: bool) -> Path:
    """Write a box round one disc of the held-out picture, and a click or another box on the other.

    No random network has a mask for one click for certain.
    """

    def feature(name: str, role: str, geometry: dict) -> dict:
        return {
            "type": "Feature",
            "geometry": geometry,
            "properties": {"object": name, "role": role},
        }

    def box(x: float, y: float, r: float) -> dict:
        corners = [[x - r, y - r], [x + r, y - r], [x + r, y + r], [x - r, y + r], [x - r, y - r]]
        return {"type": "Polygon", "coordinates": [corners]}

    first, second = DISCS[-1]
    features = [feature("one", "box", box(*first))]
    if box_only:  # a click becomes a box
        features.append(feature("two", "positive", {"type": "Point", "coordinates": second[:2]}))
    else:
        features.append(feature("two", "box", box(*second)))
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), "utf-8")
    return path


def the_whole_way(
    histosam: Callable[..., dict],
    files: list[Path],
    method: str,
    data: Path,
    tmp_path: Path,
    pictures: tuple[object, ...] = (),
) -> None:
    """Import, train, list, evaluate, segment, export; then a session with what was made."""
    brought = histosam("models", "import", *files, "--name", "base")
    assert (brought["name"], brought["ready"]) == ("base", True)
    boxes = brought["prompts"] == ["box"]
    out, own = tmp_path / "run", tmp_path / "own_files"
    found = histosam(
        "train", data, "--model", "base", "--method", method, "--name", "mine", "--out", out,
        "--epochs", 1, "--limit", 1, "--objects", 1, "--max-objects", 1, "--export", own,
        "--accelerator", "cpu", "--threads", 1,
    )  # fmt: skip
    assert (found["state"], found["name"], found["base"]) == ("done", "mine", "base")
    assert found["verdict"] in ("better", "same", "worse")
    assert json.loads((out / "report.json").read_text("utf-8"))["verdict"] == found["verdict"]
    measured = {row["model"]: row for row in found["results"]}
    assert measured.keys() == {"base", "mine"}

    row = {row["name"]: row for row in histosam("models", "list")}["mine"]
    assert row["ready"]
    assert row["trained"]["base"] == "base"
    assert (row["decoder"], row["prompts"]) == (brought["decoder"], brought["prompts"])
    assert histosam("models", "verify", "mine")[0]["status"] == "ok"

    told = histosam(
        "evaluate", data, "--model", "base", "--model", "mine", "--max-objects", 1,
        "--device", "cpu", "--threads", 1, *pictures,
    )  # fmt: skip
    again = {row["model"]: row for row in told["results"]}
    assert again.keys() == {"base", "mine"}
    for name, figures in again.items():
        for figure in ("iou_click1", "iou_click3", "iou_box"):
            assert 0 <= figures[figure] <= 1
            assert figures[figure] == pytest.approx(measured[name][figure])

    slide = data / "discs" / "images" / "c.png"
    prompts = prompt_file(tmp_path / "prompts.geojson", boxes)
    done = histosam(
        "segment", slide, "--prompts", prompts, "--model", "mine", "--device", "cpu",
        "--out", tmp_path / "found.geojson",
    )  # fmt: skip
    empty = sum("empty mask" in warning for warning in done["warnings"])
    assert done["objects"] >= (2 if not empty else 0)
    assert done["model"] == "mine"
    assert any("takes boxes only" in one for one in done["warnings"]) == boxes

    # What was exported on the way is the same model.
    names = sorted(path.name for path in own.iterdir())
    assert names == (["i_medsam.pth"] if boxes else ["net_high.pth", "net_low.pth"])
    histosam("models", "import", files[0], *(own / name for name in names), "--name", "same")
    with open_slide(slide) as opened:
        masks = []
        for model in ("mine", "same"):
            with Session(opened, model=model) as session:
                x, y, r = DISCS[-1][0]
                session.add_box(x - r, y - r, x + r, y + r)
                (shown,) = session.preview.objects.values()
                assert (shown.model, session.card.name) == (model, model)
                assert 0 <= shown.score <= 1
                masks.append(shown)
    ours, theirs = masks
    assert ours.window == theirs.window
    assert ours.score == pytest.approx(theirs.score)
    assert (ours.geometry is None) == (theirs.geometry is None)
    assert ours.geometry is None or ours.geometry.equals_exact(theirs.geometry, 1e-6)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable:
    """Run commands here, with slim encoders of one block a stage; return what they tell."""
    import torch
    from timm.models.tiny_vit import TinyVit

    from napari_histosam.models.sam import build, tiny_vit
    from napari_histosam.train.finetune import validation

    def shallow(**given: object) -> TinyVit:
        slim = {
            "depths": (1, 1, 1, 1),
            "embed_dims": (16, 32, 160, 320),
            "num_heads": (1, 1, 5, 10),
        }
        return TinyVit(**{**given, **slim})

    monkeypatch.setitem(build._VIT, "vit_b", (768, 1, 12, ()))
    monkeypatch.setattr(tiny_vit, "TinyVit", shallow)
    monkeypatch.setattr(validation, "_OBJECTS", 1)
    before = torch.get_num_threads()

    def run(*argv: object) -> dict:
        status = main([*map(str, argv), "--json"])
        said = capsys.readouterr()
        assert status == 0, said.err
        return json.loads(said.out)

    yield run
    torch.set_num_threads(before)


@pytest.fixture
def process() -> Callable:
    """Run commands as a user does; return what they tell."""

    def run(*argv: object) -> dict:
        words = [sys.executable, "-m", "napari_histosam", *map(str, argv), "--json"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.slow  # two windows of full size: I-MedSAM goes the same way in less time
def test_wsi_sam_goes_the_whole_way(quick: Callable, data: Path, tmp_path: Path) -> None:
    the_whole_way(quick, wsi_sam_files(tmp_path), "decoder", data, tmp_path)


def test_i_medsam_goes_the_whole_way(quick: Callable, data: Path, tmp_path: Path) -> None:
    the_whole_way(quick, i_medsam_files(tmp_path, 128), "lora", data, tmp_path)
    assert ModelRegistry().get("mine").window_px == 128


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("files", "method"), [(wsi_sam_files, "decoder"), (i_medsam_files, "lora")]
)
def test_encoders_of_full_size_go_the_whole_way(
    process: Callable, files: Callable, method: str, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "measured"
    the_whole_way(process, files(tmp_path), method, data, tmp_path, ("--out", out))
    for name in ("evaluation.md", "discs-base.png", "discs-mine.png"):
        assert (out / name).is_file()
