"""Quick figures: a network that sees everything, one that sees nothing, one that must be told."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_histosam.train.small.pool import measured
from napari_histosam.train.small.validation import SIDE, validate

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_histosam.train.small.pool import Picture


@pytest.fixture
def one(picture: Callable[..., Picture]) -> list[Picture]:
    return [picture(200, 200, (100, 90, 24))]


@pytest.mark.parametrize("radius", [7, 24, 90])
def test_a_network_that_sees_everything(
    dark_net, picture: Callable[..., Picture], radius: int
) -> None:
    size = 3 * radius + 20
    pictures = [picture(size, size, (size / 2 + 4, size / 2 - 1, radius))]
    net = dark_net(lambda clicks, boxed: (True, True, True), (0.7, 0.7, 0.7))
    found = validate(net, pictures)
    for name in ("val_click1", "val_click3", "val_box"):
        assert found[name] > 0.9, name
    assert found["val_score_error"] == pytest.approx(
        (found["val_click1"] + found["val_box"]) / 2 - 0.7, abs=1e-4
    )


def test_a_network_that_sees_nothing(dark_net, one: list[Picture]) -> None:
    net = dark_net(lambda clicks, boxed: (False,) * 3, (0.2, 0.2, 0.2))
    found = validate(net, one)
    assert found["val_click1"] == found["val_click3"] == found["val_box"] == 0
    assert found["val_score_error"] == pytest.approx(0.2)
    # One click, two corrections of it, one box.
    assert [int((asked.labels >= 0).sum()) for asked in net.asked] == [1, 2, 3, 0]
    assert [bool(asked.previous.isnan().any()) for asked in net.asked] == [True, False, False, True]
    assert (net.asked[2].labels == 1).all()


def test_corrections_count_for_three_clicks_only(dark_net, one: list[Picture]) -> None:
    net = dark_net(lambda clicks, boxed: (clicks > 1 or boxed,) * 3, (0.5, 0.5, 0.5))
    found = validate(net, one)
    assert found["val_click1"] == 0
    assert found["val_click3"] > 0.9
    assert found["val_box"] > 0.9


def test_a_single_click_gets_the_mask_of_the_best_score_and_a_box_the_first(
    dark_net,
    one: list[Picture],
) -> None:
    last = dark_net(lambda clicks, boxed: (False, False, True), (0.4, 0.2, 0.9))
    found = validate(last, one)
    assert found["val_click1"] > 0.9
    assert found["val_box"] == 0
    first = dark_net(lambda clicks, boxed: (True, False, False), (0.4, 0.9, 0.2))
    found = validate(first, one)
    assert found["val_click1"] == 0
    assert found["val_box"] > 0.9


def test_prompts_lie_on_the_object(dark_net, one: list[Picture]) -> None:
    net = dark_net(lambda clicks, boxed: (True,) * 3, (0.5,) * 3)
    validate(net, one)
    click, box = net.asked[0], net.asked[-1]
    middle = SIDE / 2
    assert (click.points[0, 0] - middle).abs().max() < 3
    left, top, right, bottom = box.boxes[0].tolist()
    for low, high in ((left, right), (top, bottom)):
        assert middle - 28 - 3.5 < low < middle - 28 + 3.5
        assert middle + 28 - 3.5 < high < middle + 28 + 3.5
    assert (box.labels == -1).all()


def test_fluorescence_is_turned_before_it_is_shown(
    dark_net, picture: Callable[..., Picture]
) -> None:
    glowing = picture(
        200, 200, (100, 100, 30), name="dsbf_1", colour=(200, 200, 200), ground=(10, 10, 10)
    )
    found = validate(dark_net(lambda clicks, boxed: (True,) * 3, (0.5,) * 3), [glowing] * 8)
    # Its colours are drawn: in some the ground is nearly as dark.
    assert found["val_click1"] > 0.3
    assert found["val_box"] > 0.3


def test_figures_are_the_same_every_time(dark_net, nuclei: list[Picture]) -> None:
    net = dark_net(lambda clicks, boxed: (True,) * 3, (0.5,) * 3)
    assert validate(net, nuclei) == validate(net, nuclei)
    assert validate(net, nuclei) != validate(net, nuclei[:1])


def test_without_pictures_there_are_no_figures(dark_net) -> None:
    found = validate(dark_net(lambda clicks, boxed: (True,) * 3, (0.5,) * 3), [])
    assert set(found) == {"val_click1", "val_click3", "val_box", "val_score_error"}
    assert all(math.isnan(value) for value in found.values())


def test_hairs_are_passed_over(dark_net, one: list[Picture]) -> None:
    labels = np.zeros((400, 400), np.uint16)
    labels[200, 20:380] = 1  # one px wide
    image = np.full((400, 400, 3), 220, np.uint8)
    net = dark_net(lambda clicks, boxed: (True,) * 3, (0.5,) * 3)
    assert validate(net, [*one, measured("dsb_2", image, labels)]) == validate(net, one)
