"""Against real annotations: prompts made of the truth, answered through a session."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from napari_histosam import Session
from napari_histosam.geometry.masks import mask_to_polygons
from napari_histosam.slide.open import open_array

PER_IMAGE = 12
# Measured with the bundled model: 0.554 and 0.818; the slack is for other versions of the
# image libraries, not for worse answers.
CLICK_FLOOR, BOX_FLOOR = 0.52, 0.79


def deepest(mask):
    """The centre of the pixel that is deepest inside, in corner-based px."""
    import cv2

    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return x + 0.5, y + 0.5


def iou(a, b):
    if a is None:
        return 0.0
    return a.intersection(b).area / a.union(b).area


def measured(folder):
    """Return the IoUs of clicks and of boxes, over nuclei of the held-out images."""
    items = json.loads((folder / "index.json").read_text(encoding="utf-8"))["items"]
    rng = np.random.default_rng(7)
    clicks, boxes = [], []
    for item in items:
        if item["split"] != "dev_val" or item["mask_kind"] != "instance":
            continue
        if not item["stain"].startswith("H&E"):
            continue
        image = np.asarray(Image.open(folder / item["image"]).convert("RGB"))
        labels = np.asarray(Image.open(folder / item["mask"]))
        numbers, areas = np.unique(labels[labels > 0], return_counts=True)
        numbers = numbers[areas >= 30]
        chosen = rng.choice(numbers, min(PER_IMAGE, len(numbers)), replace=False)
        mpp = (item["mpp"], item["mpp"]) if item["mpp"] else None
        with open_array([image], mpp, item["id"]) as slide, Session(slide) as session:
            for number in chosen:
                truth = mask_to_polygons(labels == number)
                session.add_point(*deepest(labels == number))
                clicks.append(iou(session.preview.objects["1"].geometry, truth))
                session.reject()
                session.add_box(*truth.bounds)
                boxes.append(iou(session.preview.objects["1"].geometry, truth))
                session.reject()
    return np.array(clicks), np.array(boxes)


def test_clicks_and_boxes_on_real_nuclei(shared_dir):
    folder = shared_dir / "data" / "nuclei"
    if not (folder / "index.json").is_file():
        pytest.skip("the shared folder has no nuclei")
    clicks, boxes = measured(folder)
    assert len(clicks) > 60
    assert clicks.mean() > CLICK_FLOOR, clicks.mean()
    assert boxes.mean() > BOX_FLOOR, boxes.mean()
