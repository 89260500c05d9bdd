"""One contract for everything that calls itself a Trainable."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_histosam.errors import InputError
from napari_histosam.models.protocols import ObjectPrompts
from napari_histosam.models.sam import build
from napari_histosam.models.trainable import METHODS, Place, Trainable
from napari_histosam.models.trained import build_trainable, methods_of, plain_state, weights_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_histosam.models.registry import ModelRegistry

SIDES = {
    "histosam-small": 512,
    "tiny-sam": 1024,
    "short-vit": 1024,
    "wsi-mine": 1024,
    "boxes-mine": 384,
}


@dataclass
class Prompts:
    """Prompts in net px."""

    points: list = field(default_factory=list)
    labels: list = field(default_factory=list)
    box: np.ndarray | None = None
    previous: np.ndarray | None = None

    @property
    def ambiguous(self) -> bool:
        return len(self.points) == 1 and self.box is None and self.previous is None


@dataclass
class Case:
    """A model, a window, its features, and objects asked for in it."""

    model: Trainable
    registry: ModelRegistry
    name: str
    images: list[np.ndarray]
    features: dict[str, torch.Tensor]
    places: list[Place]
    prompts: list[Prompts]


@pytest.fixture(scope="module")
def registry(
    tmp_path_factory: pytest.TempPathFactory,
    mobile_file: Path,
    wsi_files: list[Path],
    i_medsam_files: list[Path],
    make_weights: Callable,
    sam_shapes: Callable,
) -> Iterator[ModelRegistry]:
    """Know MobileSAM and a ViT-B of two blocks with random weights, beside the bundled model."""
    from napari_histosam.models.registry import ModelRegistry

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(build._VIT, "vit_b", (768, 2, 12, ()))
        folder = tmp_path_factory.mktemp("trainable")
        made = ModelRegistry(folder / "home", offline_dirs=[])
        made.import_file(mobile_file, "tiny-sam")
        path = folder / "vit.pth"
        torch.save(make_weights(sam_shapes("vit_b"), 7), path)
        made.import_file(path, "short-vit")
        assert made.import_files(wsi_files, "wsi-mine").window_scales == (1.0, 2.0)
        stock = torch.load(i_medsam_files[0], weights_only=True)
        for name, table in stock.items():  # no block of this ViT attends globally
            stock[name] = table[:27] if "rel_pos" in name else table
        torch.save(stock, folder / "sam_vit_b_01ec64.pth")
        made.import_files([folder / "sam_vit_b_01ec64.pth", i_medsam_files[1]], "boxes-mine")
        yield made


def asked(place: Place) -> list[Prompts]:
    side = place.width
    previous = np.zeros((place.height // 2, side // 2), np.float32)
    previous[10:20, 10:20] = 1.0
    box = np.array([0.2, 0.3, 0.6, 0.7]) * side
    return [
        Prompts([(side * 0.4, side * 0.5)], [1]),
        Prompts([], [], box),
        Prompts([(side * 0.4, side * 0.5), (3.0, 4.0)], [1, 0], None, previous),
        Prompts([(side * 0.6, side * 0.6)], [1], box),
    ]


CASES = [
    ("histosam-small", "decoder"),
    ("histosam-small", "full"),
    ("tiny-sam", "decoder"),
    ("tiny-sam", "lora"),
    ("short-vit", "mona"),
    ("wsi-mine", "decoder"),
    ("boxes-mine", "lora"),
    ("boxes-mine", "decoder"),
]


@pytest.fixture(scope="module", params=CASES, ids=["-".join(case) for case in CASES])
def case(request: pytest.FixtureRequest, registry: ModelRegistry, he_image: Callable) -> Case:
    name, method = request.param
    torch.manual_seed(0)
    model = build_trainable(registry, name, method)
    side = SIDES[name]
    images = [he_image(side, side, 3 + i) for i in range(len(model.card.window_scales))]
    prompts = ObjectPrompts(np.array([[side * 0.3, side * 0.4]]), np.array([1]))
    places = model.places(prompts, None, (side, side))
    one = places[-1]
    inputs = {k: v[None] for k, v in model.prepare(*images).items() if k in model.needed({one})}
    with torch.no_grad():
        features = model.encode(inputs)
    questions = asked(one)
    return Case(model, registry, name, images, features, [one] * len(questions), questions)


def answered(case: Case) -> list:
    return case.model.decode(case.features, [0] * len(case.prompts), case.places, case.prompts)


def test_it_is_trainable(case: Case) -> None:
    assert isinstance(case.model, Trainable)
    assert case.model.method in METHODS
    assert case.model.rate > 0
    assert any(p.requires_grad for p in case.model.module.parameters())
    # A judge over finished masks is no part of what makes them.
    named = case.model.module.named_parameters()
    frozen = [n for n, p in named if not p.requires_grad and not n.startswith("judge.")]
    assert bool(frozen) == (case.model.method != "full")


def test_places_lie_in_the_window_and_know_their_scale(case: Case) -> None:
    side = SIDES[case.name]
    point = np.array([[side * 0.3, side * 0.4]])
    for place in case.model.places(ObjectPrompts(point, np.array([1])), None, (side, side)):
        at = place.to_net(point)
        assert ((at >= 0) & (at <= (place.width, place.height))).all()
        assert (place.left + place.width) * place.factor <= side
        seen = place.cut(np.ones((side, side), bool))
        assert seen.shape == (place.height, place.width)
        assert (seen == 1).all()


def test_every_object_is_answered_once_at_half_of_net_px(case: Case) -> None:
    found = answered(case)
    rows = sorted(row for group in found for row in group.rows)
    assert rows == list(range(len(case.prompts)))
    for group in found:
        place = case.places[0]
        assert group.logits.shape[0] == group.scores.shape[0] == len(group.rows)
        assert group.logits.shape[1] == group.scores.shape[1]
        assert group.logits.shape[2:] == (place.height // 2, place.width // 2)
        ambiguous = torch.tensor([case.prompts[r].ambiguous for r in group.rows])
        which = case.model.shown(group, ambiguous)
        assert ((which >= 0) & (which < group.scores.shape[1])).all()
        estimates = case.model.estimates(group)
        assert ((estimates >= 0) & (estimates <= 1)).all()


def test_an_object_gets_what_it_gets_alone(case: Case) -> None:
    with torch.no_grad():
        for group in answered(case):
            for at, row in enumerate(group.rows):
                (alone,) = case.model.decode(
                    case.features, [0], case.places[:1], [case.prompts[row]]
                )
                torch.testing.assert_close(alone.logits[0], group.logits[at], atol=2e-3, rtol=1e-3)


def test_the_loss_falls_in_the_direction_of_its_gradient(case: Case) -> None:
    place = case.places[0]
    truth = torch.zeros(1, place.height, place.width, dtype=torch.bool)
    truth[:, place.height // 3 : place.height // 2, place.width // 3 : place.width // 2] = True

    def loss(answers) -> torch.Tensor:
        judged = case.model.loss(answers, truth, truth.sum((1, 2)).float(), torch.tensor([False]))
        assert all(part.shape == (1,) for part in judged)
        return judged.total.sum()

    (answers,) = case.model.decode(case.features, [0], [place], [case.prompts[1]])
    answers.logits.retain_grad()
    before = loss(answers)
    before.backward()
    gradient = answers.logits.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0
    trained = [p for p in case.model.module.parameters() if p.requires_grad and p.grad is not None]
    assert trained
    moved = replace(answers, logits=answers.logits - 5 * gradient)
    assert loss(moved) < before
    for part in case.model.module.parameters():
        part.grad = None


def test_each_group_of_answers_is_propagated_by_itself(case: Case) -> None:
    """So that memory holds one: none may hang on what another one's gradients have freed."""
    count = len(case.prompts)
    groups = case.model.decode(case.features, [0] * count, case.places, case.prompts)
    assert groups
    for answers in groups:
        answers.logits.sum().backward()
    learned = [part.grad for part in case.model.module.parameters() if part.requires_grad]
    assert any(grad is not None and grad.abs().sum() > 0 for grad in learned)
    for part in case.model.module.parameters():
        part.grad = None


def test_state_goes_back_and_is_named_as_upstream_names_it(case: Case) -> None:
    state = case.model.state()
    base = weights_of(case.registry, case.name)
    for name in state:
        assert name in base or "lora_" in name or ".mona" in name
    plain = plain_state(base, state)
    # Nothing was learned yet: together they are the base, but for adapters without effect.
    for name, value in base.items():
        torch.testing.assert_close(plain[name].float(), value.float())
    with torch.no_grad():
        first = answered(case)[0].logits
        for part in case.model.module.parameters():
            if part.requires_grad:
                part.add_(0.05 * torch.randn_like(part))
        assert not torch.equal(answered(case)[0].logits, first)
        case.model.restore(state)
        torch.testing.assert_close(answered(case)[0].logits, first)


def test_the_base_answers_as_its_prompt_model_does(case: Case) -> None:
    """Encoder and decoder of the trainable are those of use, also with fresh adapters."""
    if case.model.method in ("lora", "full"):
        pytest.skip("encodes as the method decoder does, which is tried")
    model = case.registry.load(case.name, "cpu")
    there = model.encode(case.images).arrays
    for name, value in case.features.items():
        scale = float(np.abs(there[name]).max())
        np.testing.assert_allclose(value[0].numpy(), there[name], atol=0.02 * scale + 1e-4)


def test_a_method_that_is_not_offered_is_refused_with_those_that_are(
    registry: ModelRegistry,
) -> None:
    with pytest.raises(InputError, match="'lora': choose decoder or full"):
        build_trainable(registry, "histosam-small", "lora")
    with pytest.raises(InputError, match="decoder, lora or full"):
        build_trainable(registry, "tiny-sam", "mona")
    with pytest.raises(InputError, match="classical cannot be trained"):
        build_trainable(registry, "classical", "decoder")
    assert methods_of(registry.get("short-vit")) == METHODS
