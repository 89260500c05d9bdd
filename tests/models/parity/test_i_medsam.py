"""All of folder i_medsam: spectrum, adapted encoder, implicit networks, loss and training."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from segment_anything.modeling.image_encoder import window_partition

from napari_histosam.models.catalog import write_card
from napari_histosam.models.i_medsam.encoder import spectrum
from napari_histosam.models.i_medsam.field import energy, most
from napari_histosam.models.i_medsam.loss import criterion, final_share, loss
from napari_histosam.models.i_medsam.model import IMedSamModel
from napari_histosam.models.i_medsam.network import published_names
from napari_histosam.models.i_medsam.points import Region, Sampler
from napari_histosam.models.i_medsam.render import Drawn, draw
from napari_histosam.models.protocols import Embedding, ObjectPrompts
from napari_histosam.models.sam.frame import Frame
from napari_histosam.models.sam.prompts import batches
from napari_histosam.models.wsi_sam.loss import cross_entropy, dice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_histosam.models.registry import ModelRegistry

FOLDER = "i_medsam"


@dataclass(frozen=True)
class Set:
    """What the README states of a case."""

    base_seed: int
    seed: int
    side: int
    image_seed: int
    boxes: tuple[tuple[float, ...], ...]
    sizes: tuple[tuple[int, int], ...]
    thinned: int  # stride of the logits of the first size
    mc_size: tuple[int, int]
    mc_seed: int


SETS = {
    "a": Set(11, 11, 384, 1, ((96, 120, 250, 300),), ((384, 384), (128, 128)), 3, (96, 96), 21),
    "b": Set(
        1097,
        97,
        256,
        2,
        ((30, 40, 120, 200), (140.5, 10.25, 250, 90)),
        ((160, 224), (64, 64)),
        2,
        (48, 64),
        22,
    ),
}
TABLE, TOKEN, DEEP = 2e-6, 5e-5, 2e-4
# Coordinates are multiplied in upstream's order, so the stricter bounds hold.
CODE, LOGIT, ENERGY = 1e-6, 2e-5, 5e-5


def prompts_of(boxes: tuple[tuple[float, ...], ...], side: int) -> Any:
    """Return boxes, given as upstream's indices, as one batch."""
    objects = [ObjectPrompts(box=np.array(box) + 0.5) for box in boxes]
    (batch,) = batches(objects, Frame((side, side), scaled=False), 8)
    return batch


@pytest.fixture(scope="module")
def load(checkpoint: Callable, session_registry: ModelRegistry) -> Iterator[Callable]:
    """Load a case through the registry; the side is stated by a card."""
    models: dict[tuple, IMedSamModel] = {}
    written: list[Path] = []

    def model(base_seed: int, seed: int, side: int) -> IMedSamModel:
        key = (base_seed, seed, side)
        if key not in models:
            name = f"i-medsam-{side}"
            card = replace(session_registry.get("i-medsam"), name=name, window_px=side)
            write_card(card, session_registry.folder / f"{name}.json")
            base = checkpoint(
                FOLDER, "sam_vit_b_base", base_seed, "sam_vit_b_01ec64.pth", prefixed=False
            )
            own = checkpoint(
                FOLDER,
                "i_medsam_checkpoint_model",
                seed,
                "model_best.pth",
                prefixed=False,
                wrapped=True,
            )
            written.append(base)
            loaded = session_registry.load(name, "cpu", [own, base])
            assert isinstance(loaded, IMedSamModel)
            models[key] = loaded
        return models[key]

    yield model
    for path in written:
        path.unlink(missing_ok=True)  # 375 MB


@pytest.fixture(scope="module")
def arrays(parity_dir: Path) -> Callable[[str], dict[str, np.ndarray]]:
    def of(case: str) -> dict[str, np.ndarray]:
        path = parity_dir / FOLDER / f"golden_{case}.npz"
        if not path.is_file():
            pytest.skip(f"the arrays of case {case.upper()} of {FOLDER} are not in {parity_dir}")
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}

    return of


class Compared:
    """Compares tensors with the arrays that are there: shape, figures, and values."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.seen: set[str] = set()

    def close(
        self,
        name: str,
        found: torch.Tensor,
        tolerance: float,
        stride: tuple[int, ...] = (),
        beyond: float = 0.0,
    ) -> None:
        """Compare; ``beyond`` is the share of values that may be anything."""
        if name not in self.arrays:
            return
        if f"{name}__shape" in self.arrays:
            assert tuple(found.shape) == tuple(self.arrays[f"{name}__shape"]), name
        if f"{name}__stats" in self.arrays and not beyond:
            stats = [float(found.mean()), float(found.std(correction=0)), float(found.abs().max())]
            wanted = self.arrays[f"{name}__stats"]
            assert np.abs(np.array(stats) - wanted).max() <= max(tolerance, 1e-6), name
        part = found[tuple(slice(None, None, step) for step in stride)].numpy()
        wanted = self.arrays[name]
        assert part.shape == wanted.shape, name
        off = np.abs(part.astype(np.float64) - wanted)
        assert (off > tolerance).mean() <= beyond, f"{name} is off by {off.max()}"
        self.seen.add(name)


@dataclass
class Encoded:
    """A case's model and the embedding of its image."""

    model: IMedSamModel
    images: torch.Tensor
    embedding: torch.Tensor


def encoder_arrays(model: IMedSamModel, images: torch.Tensor, compared: Compared) -> torch.Tensor:
    encoder = model.net.image_encoder
    vit = encoder.vit
    compared.close("pos_embed_resized", vit.pos_embed, TABLE, (1, 3, 3, 32))
    compared.close("rel_pos_h_block2_resized", vit.blocks[2].attn.rel_pos_h, TABLE, (1, 4))
    amplitude = spectrum(images)
    compared.close("spectrum", amplitude[:, 0], TABLE, (1, 8, 8))
    middle = images.shape[-1] // 2
    around = slice(middle - 4, middle + 5)
    compared.close("spectrum_centre", amplitude[0, 0, around, around], TABLE)
    tokens = vit.patch_embed(images)
    compared.close("patch_tokens_image", tokens, TOKEN, (1, 5, 5, 16))
    compared.close("patch_tokens_spectrum", vit.patch_embed(amplitude), TOKEN, (1, 5, 5, 16))
    windows, _ = window_partition(vit.blocks[0].norm1(tokens + vit.pos_embed), 14)
    qkv = vit.blocks[0].attn.qkv
    compared.close("block0_gate", qkv.gates(windows), TOKEN)
    compared.close("block0_qkv", qkv(windows), TOKEN, (1, 7, 7, 16))
    x = None
    for number, (x, u) in enumerate(encoder.streams(images)):
        compared.close(f"block{number}_x", x, DEEP, (1, 5, 5, 16))
        compared.close(f"block{number}_xfreq", u, DEEP, (1, 5, 5, 16))
    assert x is not None
    embedding = vit.neck(x.permute(0, 3, 1, 2))
    compared.close("encoder_out", embedding, DEEP, (1, 4, 3, 3))
    return embedding


@pytest.fixture(scope="module")
def encoded(load: Callable, det_init: Any) -> Callable[[str], Encoded]:
    known: dict[str, Encoded] = {}

    def of(case: str) -> Encoded:
        if case not in known:
            it = SETS[case]
            model = load(it.base_seed, it.seed, it.side)
            image = det_init.image(it.side, it.side, it.image_seed)
            images = torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float() / 255
            array = model.encode([image]).arrays["embedding"]
            known[case] = Encoded(model, images, torch.from_numpy(array)[None])
        return known[case]

    return of


CASES = pytest.mark.parametrize("case", SETS, ids=lambda case: f"{FOLDER}-{case}")


@CASES
def test_encoder(case: str, arrays: Callable, encoded: Callable) -> None:
    compared = Compared(arrays(case))
    here = encoded(case)
    with torch.inference_mode():
        embedding = encoder_arrays(here.model, here.images, compared)
    torch.testing.assert_close(embedding, here.embedding, atol=1e-5, rtol=0)
    assert len(compared.seen) >= 17


def merged_by_hand(everywhere: Drawn) -> Drawn:
    """Return what `draw` makes of the points of highest energy, from the answers at all points."""
    chosen = most(everywhere.energy.flatten(), int(0.125 * everywhere.energy.numel()))
    logits = everywhere.coarse.flatten().clone()
    logits[chosen] = everywhere.logits.flatten()[chosen]
    return replace(everywhere, logits=logits.reshape(everywhere.energy.shape))


@CASES
def test_implicit_networks(case: str, arrays: Callable, encoded: Callable) -> None:
    it, compared, here = SETS[case], Compared(arrays(case)), encoded(case)
    net = here.model.net
    batch = prompts_of(it.boxes, it.side)
    field = net.mask_decoder.seg_field
    with torch.inference_mode():
        sparse, dense = net.prompt_encoder(batch.points, batch.boxes, None)
        compared.close("sparse_prompt", sparse, TOKEN)
        positions = net.prompt_encoder.get_dense_pe()
        source = net.mask_decoder.transformed(here.embedding, positions, sparse, dense)
        compared.close("transformer_image_tokens", source, DEEP, (1, 7, 8))
        maps = net.upscaled(here.embedding, batch)
        compared.close("upscaled", maps, DEEP, (1, 1, 9, 9))
        for size in it.sizes:
            name = f"{size[0]}x{size[1]}"
            step = it.thinned if size == it.sizes[0] else 1
            samplers = [net.sampler(one, size) for one in maps]
            inputs = torch.cat([sampler.rows(0, size[0]) for sampler in samplers])
            every = int(compared.arrays[f"inr_input_{name}__rowstride"])
            assert tuple(inputs.shape) == tuple(compared.arrays[f"inr_input_{name}__shape"])
            wanted = compared.arrays[f"inr_input_{name}"]
            off = np.abs(inputs[::every].numpy() - wanted)
            assert off[:, :288].max() <= DEEP
            assert off[:, 288:].max() <= CODE
            everywhere = [draw(field, sampler, refine="all") for sampler in samplers]
            fine = [one.logits for one in everywhere]
            if size == it.sizes[0]:  # put together here: to draw the large one again takes long
                drawn = [merged_by_hand(one) for one in everywhere]
            else:
                drawn = [draw(field, sampler) for sampler in samplers]
            coarse = torch.stack([one.coarse for one in drawn])[:, None]
            thin = (1, 1, step, step)
            compared.close(f"coarse_logit_{name}", coarse, LOGIT, thin)
            compared.close(f"fine_everywhere_{name}", torch.stack(fine)[:, None], LOGIT, thin)
            energies = torch.stack([one.energy for one in drawn])
            compared.close(f"feature_energy_{name}", energies, ENERGY, thin[1:])
            merged = torch.stack([one.logits for one in drawn])[:, None]
            compared.close(f"merged_energy_{name}", merged, LOGIT, thin, beyond=0.005)
    assert len(compared.seen) == 3 + 4 * len(it.sizes)


@CASES
def test_two_passes_with_given_masks(case: str, arrays: Callable, encoded: Callable) -> None:
    it, compared, here = SETS[case], Compared(arrays(case)), encoded(case)
    net, (height, width) = here.model.net, it.mc_size
    rng = np.random.default_rng(it.mc_seed)
    count = len(it.boxes) * height * width
    keep = tuple(torch.from_numpy(rng.random((count, 257)) < 0.5) for _ in range(2))
    with torch.inference_mode():
        maps = net.upscaled(here.embedding, prompts_of(it.boxes, it.side))
        rows = [net.sampler(one, it.mc_size).rows(0, height) for one in maps]
        coarse, final, variance, chosen = net.mask_decoder.seg_field.twice(
            torch.cat(rows), (keep[0], keep[1])
        )
    shape = (len(it.boxes), 1, height, width)
    compared.close("mc_variance", variance, ENERGY)
    compared.close("mc_coarse", coarse.reshape(shape), LOGIT)
    compared.close("mc_fine", final.reshape(shape), LOGIT, beyond=0.005)
    wanted = set(compared.arrays["mc_selected_sorted"].tolist())
    assert len(wanted & set(chosen.tolist())) >= 0.99 * len(wanted)
    assert len(chosen) == len(wanted)
    assert len(compared.seen) == 3


@CASES
@pytest.mark.parametrize("progress", ["1.0", "0.5", "0.05"])
def test_coordinate_code(case: str, progress: str, arrays: Callable) -> None:
    wanted = arrays(case)[f"coord_code_3x4_T{progress}"]
    empty = torch.zeros(0, 3, 3)
    sampler = Sampler((empty,), (3, 4), Region(0, 0, 4, 3), float(progress))
    found = sampler.rows(0, 3).numpy()
    assert np.abs(found - wanted).max() <= CODE


@pytest.mark.parametrize("case", ["b"], ids=[f"{FOLDER}-b"])
def test_points_and_no_prompt(case: str, arrays: Callable, encoded: Callable) -> None:
    compared = Compared(arrays(case))
    here = encoded(case)
    net = here.model.net
    at = (torch.tensor([[[80.0, 100.0], [200.0, 60.0]]]), torch.tensor([[1, 0]]))
    with torch.inference_mode():
        sparse, dense = net.prompt_encoder(at, None, None)
        compared.close("points_sparse", sparse, TOKEN)
        for name, (tokens, grid) in {
            "points": (sparse, dense),
            "noprompt": net.prompt_encoder(None, None, None),
        }.items():
            maps = net.mask_decoder.upscaled(
                here.embedding, net.prompt_encoder.get_dense_pe(), tokens, grid
            )
            drawn = draw(net.mask_decoder.seg_field, net.sampler(maps[0], (64, 64)))
            compared.close(f"{name}_coarse_64x64", drawn.coarse[None, None], LOGIT)
    assert len(compared.seen) == 3


@pytest.mark.parametrize("case", ["a"], ids=[f"{FOLDER}-a"])
def test_the_public_model_answers_as_its_network(case: str, encoded: Callable) -> None:
    """A box with upstream's last pixels in it, through `render` and `decode`."""
    it, here = SETS[case], encoded(case)
    box = np.add(it.boxes[0], (0, 0, 1, 1))
    embedding = Embedding({"embedding": here.embedding[0].numpy()}, (it.side, it.side))
    net = here.model.net
    asked = [ObjectPrompts(box=box)]
    (found,) = here.model.render(embedding, asked, grid=(128, 128), whole=True)
    with torch.inference_mode():
        maps = net.upscaled(here.embedding, prompts_of(it.boxes, it.side))
        wanted = draw(net.mask_decoder.seg_field, net.sampler(maps[0], (128, 128)))
    assert np.abs(found.logits - wanted.logits.numpy()).max() <= 1e-5
    (answer,) = here.model.decode(embedding, asked)
    (part,) = here.model.render(embedding, asked)
    assert answer.masks.shape == (1, it.side, it.side)
    assert answer.masks.sum() == (part.logits > 0).sum()


@pytest.fixture(scope="module")
def losses(parity_dir: Path) -> dict:
    return json.loads((parity_dir / FOLDER / "loss_golden.json").read_text())


@pytest.mark.parametrize("count", [1, 2], ids=lambda count: f"{FOLDER}-B{count}")
def test_losses(count: int, losses: dict) -> None:
    rng = np.random.default_rng(5)
    for b in range(1, count + 1):
        logits = [
            torch.from_numpy(rng.standard_normal((b, 1, 16, 20)).astype(np.float32))[:, 0]
            for _ in range(2)
        ]
        truth = torch.from_numpy(rng.random((b, 1, 16, 20)) > 0.6)[:, 0]
    wanted = losses[f"loss_B{count}"]
    for part, name in zip(logits, ("coarse", "fine"), strict=True):
        plain = dice(part, truth).mean()
        assert float(plain) == pytest.approx(wanted[f"dice_part_{name}"], abs=1e-6)
        whole = criterion(part, truth, upstream=True).mean()
        assert float(whole) == pytest.approx(wanted[f"criterion_{name}"], abs=1e-6)
        (key,) = (k for k in wanted if k.startswith(f"bce_with_logits_{name} "))
        assert float(cross_entropy(part, truth).mean()) == pytest.approx(wanted[key], abs=1e-6)
    for epoch in (0, 1, 2, 3, 4, 10):
        total = loss(logits[0], logits[1], truth, epoch, upstream=True).mean() / count
        assert float(total) == pytest.approx(wanted[f"total_epoch_{epoch}"], abs=1e-6)


def is_trained(name: str) -> bool:
    """What upstream trains, by its own names."""
    return (
        name.startswith(
            ("w_", "prompt_encoder.", "mask_decoder.output_upscaling.", "mask_decoder.seg_field.")
        )
        or ".freq_adapter." in name
    )


@pytest.mark.parametrize("step", ["train_step"], ids=[f"{FOLDER}-train-step"])
def test_one_step_of_training(step: str, losses: dict, load: Callable, det_init: Any) -> None:
    wanted = losses[step]
    model = load(11, 11, 256)
    net = model.net
    own = {name: net.get_parameter(ours) for name, ours in parameters(net).items()}
    image = det_init.image(256, 256, 3)
    images = torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float() / 255
    yy, xx = np.mgrid[:64, :64]
    truth = torch.from_numpy(((yy - 30) / 20) ** 2 + ((xx - 26) / 18) ** 2 < 1)[None]
    rng = np.random.default_rng(31)
    keep = tuple(torch.from_numpy(rng.random((4096, 257)) < 0.5) for _ in range(2))
    for name, value in own.items():
        value.requires_grad_(is_trained(name))
    field = net.mask_decoder.seg_field.train()
    maps = net.upscaled(net.image_encoder(images), prompts_of(((30, 40, 180, 200),), 256))
    rows = net.sampler(maps[0], (64, 64), progress=0.15).rows(0, 64)
    coarse, final = field.twice(rows, (keep[0], keep[1]))[:2]
    # Upstream runs both passes through the norms of the coarse network.
    shape = (1, 64, 64)
    coarse, final = coarse.reshape(shape), final.reshape(shape)
    assert final_share(2) == pytest.approx(0.6)
    first, last = (criterion(x, truth, upstream=True)[0] for x in (coarse, final))
    assert first.item() == pytest.approx(wanted["loss_coarse"], abs=1e-5)
    assert last.item() == pytest.approx(wanted["loss_fine"], abs=1e-5)
    total = loss(coarse, final, truth, 2, upstream=True)[0]
    assert total.item() == pytest.approx(wanted["loss"], abs=1e-5)
    total.backward()
    for name, norm in wanted["grad_l2"].items():
        gradient = own[name].grad
        assert gradient is not None, name
        assert float(gradient.norm()) == pytest.approx(norm, rel=0.01, abs=1e-6), name
    frozen = [n for n, p in net.named_parameters() if p.grad is not None and not p.requires_grad]
    assert frozen == []
    for key, norm in (("0.1", field.seg_net[0][1]), ("1.1", field.seg_net[1][1])):
        means = norm.running_mean[:8].numpy()
        kept = wanted[f"bn_seg_net.{key}.running_mean_after[:8]"]
        assert np.abs(means - np.array(kept)).max() <= 1e-4
        assert int(norm.num_batches_tracked) == wanted[f"bn_seg_net.{key}.num_batches_tracked"]


def parameters(net: Any) -> dict[str, str]:
    named = dict(net.named_parameters())
    return {name: ours for name, ours in published_names(net).items() if ours in named}


def test_energy_is_the_expected_variance_and_ties_go_to_the_lowest_index() -> None:
    generator = torch.Generator().manual_seed(0)
    out = torch.randn(5, 257, generator=generator)
    passes = [
        torch.stack([out * 2 * (torch.rand(5, 257, generator=generator) < 0.5) for _ in range(2)])
        for _ in range(600)
    ]
    drawn = torch.stack([p.var(0).mean(1) for p in passes]).mean(0)
    torch.testing.assert_close(drawn, energy(out), rtol=0.03, atol=0)
    assert most(torch.tensor([0.0, 2, 1, 2, 2, 0]), 3).tolist() == [1, 3, 4]
    assert most(torch.zeros(6), 2).tolist() == [0, 1]
