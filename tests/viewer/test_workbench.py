"""The workbench without a window: exact layers, sessions that begin and end with slides."""

from __future__ import annotations

import shutil
import threading
import time

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_histosam.errors import InputError
from napari_histosam.viewer.reader import reader_for
from napari_histosam.viewer.workbench import Workbench

FIRST = (1134.0, 2027.5)


@pytest.fixture
def slide_copy(sample_slide_path, tmp_path):
    return shutil.copy(sample_slide_path, tmp_path / sample_slide_path.name)


@pytest.fixture
def bench(slide_copy):
    made = Workbench(ViewerModel())
    made.open(slide_copy)
    yield made
    made.close()


def wait(done):
    end = time.monotonic() + 10
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_click_becomes_an_object_and_its_layer(bench):
    session = bench.controller.session
    session.add_point(*FIRST)
    preview = bench.viewer.layers["Preview"]
    assert preview.data.any()
    session.accept()
    assert len(session.store) == 1
    shown = np.asarray(bench.viewer.layers["Objects"].data[0][2000:2060, 1100:1160])
    assert shown.any()
    assert not preview.data.any()
    for layer in bench.viewer.layers:
        assert {str(u) for u in layer.units} == {"micrometer"}, layer.name
        assert tuple(layer.axis_labels) == ("y", "x")


def test_the_slides_file_is_closed_with_its_last_layer(bench):
    layer = bench.controller.layer
    slide = layer.metadata["histosam_slide"]
    bench.viewer.layers.remove(layer)
    assert bench.controller is None
    assert not bench.viewer.layers
    wait(lambda: not [t for t in threading.enumerate() if t.name == "histosam-let-go"])
    with pytest.raises(InputError, match="closed"):
        slide.read_region(0, 0, 0, 10, 10)


def test_without_a_window_every_read_is_exact(slide_copy):
    read = reader_for(str(slide_copy), None, None)
    ((data, kwargs, kind),) = read(str(slide_copy))
    assert kind == "image"
    assert kwargs["scale"] == pytest.approx((0.499, 0.499))
    slide = kwargs["metadata"]["histosam_slide"]
    np.testing.assert_array_equal(
        data[0][500:700, 300:450], slide.read_region(300, 500, 0, 150, 200)
    )
    kwargs["metadata"]["histosam_display"].close()


def test_stacks_are_not_ours(slide_copy):
    assert reader_for([str(slide_copy)] * 2, None, None) is None
    assert reader_for([str(slide_copy)], None, None) is not None


def test_nothing_to_scale_without_a_slide():
    bench = Workbench(ViewerModel())
    with pytest.raises(InputError, match="Open a slide first"):
        bench.set_mpp(0.5, 0.5)
    grey = bench.viewer.add_image(np.zeros((5, 5)), name="grey")
    with pytest.raises(InputError, match="grey"):
        bench.adopt(grey)
    bench.take_over()
    bench.close()


def test_a_store_that_cannot_be_opened_is_told(slide_copy, monkeypatch):
    from napari_histosam.viewer import workbench

    def refuse(*args, **kwargs):
        raise InputError("The objects' file is damaged; bring the last copy.")

    monkeypatch.setattr(workbench, "open_store_for", refuse)
    bench = Workbench(ViewerModel())
    said = []
    bench.said.connect(said.append)
    bench.open(slide_copy)
    assert said == ["The objects' file is damaged; bring the last copy."]
    assert bench.controller is None
    bench.close()
