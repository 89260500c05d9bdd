"""The bundled model as it ships: it keeps to prompts, on real tissue and from its real file."""

from __future__ import annotations

import numpy as np
import pytest

from napari_histosam import open_slide
from napari_histosam.errors import InputError
from napari_histosam.home import shipped
from napari_histosam.models import ModelRegistry
from napari_histosam.models.catalog import read_card
from napari_histosam.models.protocols import Embedding, ObjectPrompts
from napari_histosam.models.small import octaves
from napari_histosam.models.small.load import load_net, save_net
from napari_histosam.models.small.network import SmallNet

NAME = "histosam-small"
# Nuclei of the sample slide, level-0 px.
NUCLEI = ((1134.0, 2027.5), (1154.5, 2031.5), (1153.0, 1978.0), (1384.5, 2022.0))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return ModelRegistry(tmp_path_factory.mktemp("home")).load(NAME, "cpu")


@pytest.fixture(scope="module")
def field(sample_slide_path):
    """A window of tissue, twofold enlarged as a nucleus wants it, and its corner."""
    with open_slide(sample_slide_path) as slide:
        window = slide.read_region(1030, 1930, 0, 256, 256)
    return np.kron(window, np.ones((2, 2, 1), np.uint8)), (1030, 1930)


@pytest.fixture(scope="module")
def view(model, field):
    return model.encode([field[0]])


def at(field, *places):
    left, top = field[1]
    return np.array([[(x - left) * 2, (y - top) * 2] for x, y in places])


def asked(points=None, labels=None, **more) -> ObjectPrompts:
    return ObjectPrompts(
        points=None if points is None else np.asarray(points, float),
        labels=None if labels is None else np.asarray(labels),
        **more,
    )


def overlap(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


def test_the_file_is_small_whole_and_listed(registry_rows):
    row = registry_rows[NAME]
    assert row["ready"] is True
    assert 1_000_000 < row["bytes"] <= 10_000_000
    card = read_card(shipped("weights") / f"{NAME}.json")
    assert card.files[0].url is None
    text = (shipped("weights") / f"{NAME}.md").read_text("utf-8")
    for source in ("EBHI-Seg", "RINGS", "TNBC", "AIDPATH", "BBBC038", "CC0", "CC-BY"):
        assert source in text


@pytest.fixture
def registry_rows(tmp_path):
    return {row["name"]: row for row in ModelRegistry(tmp_path).describe()}


@pytest.mark.parametrize("place", NUCLEI[:3])
def test_features_cut_or_whole_give_the_same_mask(model, view, field, place, monkeypatch):
    x, y = at(field, place)[0]
    box = asked(box=np.array([x - 20, y - 20, x + 20, y + 20]))
    (cut,) = model.decode(view, [box])
    monkeypatch.setattr(octaves, "CROP", 512)
    (whole,) = model.decode(view, [box])
    assert overlap(cut.masks[0], whole.masks[0]) >= 0.99


def test_it_finds_nuclei_of_the_size_of_nuclei(model, view, field):
    for place in NUCLEI[:3]:
        (found,) = model.decode(view, [asked(at(field, place), [1])])
        (x, y), mask = at(field, place)[0], found.masks[0]
        assert mask[int(y), int(x)]
        assert 300 < mask.sum() < 6000
        assert found.scores[0] > 0.4


def test_a_box_is_answered_within_it(model, view):
    rng = np.random.default_rng(5)
    for _ in range(12):
        left, top = rng.uniform(0, 400, 2)
        width, height = rng.uniform(10, 110, 2)
        box = np.array([left, top, left + width, top + height])
        (found,) = model.decode(view, [asked(box=box)])
        rows, columns = np.nonzero(found.masks[0])
        if not len(rows):
            continue
        assert columns.min() >= left - 0.1 * width - 1
        assert columns.max() + 1 <= left + width + 0.1 * width + 1
        assert rows.min() >= top - 0.1 * height - 1
        assert rows.max() + 1 <= top + height + 0.1 * height + 1


def test_corrections_are_followed(model, view, field):
    rng = np.random.default_rng(2)
    for place in NUCLEI[:3]:
        first = at(field, place)[0]
        (found,) = model.decode(view, [asked([first], [1])])
        inside = np.argwhere(found.masks[0])
        away = inside[rng.integers(len(inside))][::-1] + 0.5
        if np.hypot(*(away - first)) < 8:
            continue
        (less,) = model.decode(view, [asked([first, away], [1, 0], logits=found.logits[0])])
        assert not less.masks[0][int(away[1]), int(away[0])]
        beyond = first + np.array([28, 0])
        (more,) = model.decode(view, [asked([first, beyond], [1, 1], logits=found.logits[0])])
        assert more.masks[0][int(beyond[1]), int(beyond[0])]


def test_glass_gives_little_and_says_so(model):
    rng = np.random.default_rng(0)
    glass = np.clip(rng.normal(240, 2, (512, 512, 3)), 0, 255).astype(np.uint8)
    view = model.encode([glass])
    for place in ((256.0, 256.0), (100.0, 400.0)):
        (found,) = model.decode(view, [asked([place], [1])])
        assert found.masks[0].sum() < 400 or found.scores[0] < 0.3
        assert found.scores[0] < 0.5


def test_a_cropped_window_gives_the_mask_of_the_whole_one(model, field, view):
    image = field[0]
    part = model.encode([image[96:416, 96:416]])
    for place in NUCLEI[:3]:
        where = at(field, place)
        (whole,) = model.decode(view, [asked(where, [1])], multimask=False)
        rows, columns = np.nonzero(whole.masks[0])
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)
        (a,) = model.decode(view, [asked(box=box)])
        (b,) = model.decode(part, [asked(box=box - 96)])
        assert overlap(a.masks[0][96:416, 96:416], b.masks[0]) > 0.95


def test_an_earlier_mask_is_followed(model, view, field):
    (x, y) = at(field, NUCLEI[0])[0]
    rows, columns = np.ogrid[:512, :512]
    drawn = np.hypot(columns + 0.5 - x, rows + 0.5 - y) < 20
    (found,) = model.decode(view, [asked(mask=drawn)])
    assert overlap(found.masks[0], drawn) > 0.4


def test_a_known_size_ranks_the_masks(model, view, field):
    where = at(field, NUCLEI[0])
    sizes = []
    for side in (12.0, 150.0):
        (found,) = model.decode(view, [asked(where, [1], side=side)])
        sizes.append(np.sqrt(found.masks[0].sum()))
    assert sizes[0] <= sizes[1]


@pytest.mark.parametrize("size", [(1, 1), (17, 250), (511, 300), (700, 900)])
def test_windows_of_any_size(model, size):
    image = np.full((size[1], size[0], 3), 200, np.uint8)
    view = model.encode([image])
    assert view.size == size
    prompts = [asked([[size[0] / 2, size[1] / 2]], [1]), asked(box=np.array([0, 0, *size], float))]
    for found in model.decode(view, prompts):
        assert found.masks.shape[1:] == (size[1], size[0])


def test_the_file_is_read_as_it_is_written(tmp_path):
    net = SmallNet()
    save_net(net.state_dict(), tmp_path / "own.safetensors")
    back = load_net(tmp_path / "own.safetensors")
    for name, value in net.state_dict().items():
        expected = value.half().float() if value.is_floating_point() else value
        assert back.state_dict()[name].equal(expected)
    card = read_card(shipped("weights") / f"{NAME}.json")
    model = ModelRegistry(tmp_path / "home").load(card.name, "cpu", [tmp_path / "own.safetensors"])
    assert isinstance(model.encode([np.zeros((20, 20, 3), np.uint8)]), Embedding)


def test_other_files_are_refused_in_one_sentence(tmp_path):
    from safetensors.torch import save_file

    state = dict(SmallNet().state_dict())
    first = next(iter(state))
    del state[first]
    path = tmp_path / "part.safetensors"
    save_file(state, path)
    with pytest.raises(InputError, match="does not fit histosam-small") as caught:
        ModelRegistry(tmp_path).load(NAME, "cpu", [path])
    assert first in str(caught.value)
