"""LoRA updates and Mona adapters: no effect at first, merged as unmerged, names as published."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from segment_anything.modeling import ImageEncoderViT
from torch import nn

from napari_histosam.models.sam.decode import answers
from napari_histosam.models.sam.lora import LoraLinear, add_lora, lora_layers, merged
from napari_histosam.models.sam.mona import Mona, add_mona, has_mona, mona_parts
from napari_histosam.models.sam.prompts import PromptBatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def encoder(width: int = 32) -> ImageEncoderViT:
    """A ViT of SAM's kind, small: two blocks, one of which attends in windows."""
    torch.manual_seed(1)
    made = ImageEncoderViT(
        img_size=64, patch_size=16, embed_dim=width, depth=2, num_heads=2, out_chans=8,
        use_rel_pos=True, window_size=3, global_attn_indexes=(1,),
    )  # fmt: skip
    for part in made.parameters():
        nn.init.normal_(part, 0, 0.2)
    return made.eval()


PIXELS = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))


@hypothesis.given(
    ins=st.integers(1, 24),
    outs=st.integers(1, 24),
    rank=st.integers(1, 6),
    scale=st.floats(0.0, 3.0),
    seed=st.integers(0, 1000),
    bias=st.booleans(),
)
@hypothesis.settings(max_examples=40)
def test_merged_equals_unmerged(
    ins: int, outs: int, rank: int, scale: float, seed: int, bias: bool
) -> None:
    torch.manual_seed(seed)
    layer = LoraLinear(nn.Linear(ins, outs, bias), rank)
    nn.init.normal_(layer.lora_up, 0, scale / max(rank, 1))
    x = torch.randn(5, ins)
    with torch.no_grad():
        apart, before = layer(x), layer.weight.clone()
        layer.merge()
        layer.merge()
        together = layer(x)
        plain = nn.functional.linear(x, merged(before, layer.lora_down, layer.lora_up), layer.bias)
        layer.unmerge()
        layer.unmerge()
        again = layer(x)
    bound = 1e-5 * max(1.0, float(apart.abs().max()))
    assert (together - apart).abs().max() <= bound
    assert torch.equal(together, plain)
    assert torch.equal(again, apart)
    assert torch.equal(layer.weight, before)


def test_fresh_lora_changes_nothing_and_keeps_the_names_of_the_layer() -> None:
    net = encoder()
    names = set(net.state_dict())
    with torch.no_grad():
        before = net(PIXELS)
        add_lora(net, rank=3)
        add_lora(net, rank=3)  # a second time adds nothing
        assert torch.equal(net(PIXELS), before)
    added = set(net.state_dict()) - names
    assert names <= set(net.state_dict())
    assert added == {
        f"blocks.{i}.attn.qkv.{part}" for i in (0, 1) for part in ("lora_down", "lora_up")
    }
    assert len(list(lora_layers(net))) == 2


def test_merging_a_whole_encoder_changes_nothing() -> None:
    net = encoder()
    add_lora(net, rank=4)
    for layer in lora_layers(net):
        nn.init.normal_(layer.lora_up, 0, 0.1)
    with torch.no_grad():
        apart = net(PIXELS)
        for layer in lora_layers(net):
            layer.merge()
        together = net(PIXELS)
    assert (together - apart).abs().max() <= 1e-5 * float(apart.abs().max())


def test_lora_learns_through_its_update_alone() -> None:
    layer = LoraLinear(nn.Linear(6, 4).requires_grad_(False), 2)
    layer(torch.randn(3, 6)).square().sum().backward()
    assert layer.weight.grad is None
    assert layer.lora_up.grad is not None
    assert layer.lora_up.grad.abs().sum() > 0


def test_fresh_mona_changes_nothing_and_keeps_the_names_of_the_blocks() -> None:
    net = encoder()
    names = set(net.state_dict())
    with torch.no_grad():
        before = net(PIXELS)
        add_mona(net)
        torch.testing.assert_close(net(PIXELS), before, rtol=0, atol=1e-6)
        add = set(net.state_dict()) - names
        assert names <= set(net.state_dict())
        assert has_mona(add)
        mona_parts(net)[0].project2.weight.normal_()
        assert not torch.allclose(net(PIXELS), before)
    assert len(mona_parts(net)) == 4


def test_mona_as_pytorch_initialises_it_is_no_identity() -> None:
    net = encoder()
    with torch.no_grad():
        before = net(PIXELS)
        add_mona(net, identity=False)
        assert not torch.allclose(net(PIXELS), before)


def test_mona_has_the_published_names_shapes_and_size(shared_dir: Path) -> None:
    rows = json.loads((shared_dir / "parity/sam_lung/keys_mona.json").read_text("utf-8"))
    rows = rows if isinstance(rows, list) else next(iter(rows.values()))
    start = "blocks.0.mona1."
    wanted = {row[0].split(start)[1]: tuple(row[1]) for row in rows if start in row[0]}
    found = {name: tuple(value.shape) for name, value in Mona(768).named_parameters()}
    assert found == wanted
    assert sum(value.numel() for value in Mona(768).parameters()) == 111_872


def test_mona_computes_what_the_formula_says() -> None:
    torch.manual_seed(0)
    one = Mona(12).eval()
    nn.init.normal_(one.gamma)
    z = torch.randn(2, 5, 4, 12)
    conv = one.adapter_conv
    u = nn.functional.layer_norm(z, (12,), one.norm.weight, one.norm.bias, 1e-5)
    d = one.project1(u * one.gamma + z * one.gammax).permute(0, 3, 1, 2)
    c = (conv.conv1(d) + conv.conv2(d) + conv.conv3(d)) / 3 + d
    e = (c + conv.projector(c)).permute(0, 2, 3, 1)
    wanted = z + one.project2(nn.functional.gelu(e))
    torch.testing.assert_close(one(z), wanted)


@pytest.fixture(scope="module")
def tiny_sam(sam_shapes: Callable, make_weights: Callable):
    from napari_histosam.models.sam.build import load_sam

    return load_sam(make_weights(sam_shapes("vit_t"), 9), "made", "vit_t")


@pytest.mark.parametrize("kind", ["points", "box", "mask"])
def test_objects_of_several_windows_get_what_segment_anything_gives_each(tiny_sam, kind) -> None:
    torch.manual_seed(2)
    embeddings = torch.randn(2, 256, 64, 64)
    at = torch.rand(2, 2, 2) * 1000
    points = (at, torch.tensor([[1, 0], [1, 1]], dtype=torch.int32)) if kind != "box" else None
    boxes = torch.tensor([[10.0, 20, 300, 400], [500, 500, 800, 600]]) if kind == "box" else None
    masks = torch.randn(2, 1, 256, 256) if kind == "mask" else None
    with torch.no_grad():
        logits, scores = answers(tiny_sam, embeddings, PromptBatch((0, 1), points, boxes, masks))
        for row in range(2):
            alone = slice(row, row + 1)
            sparse, dense = tiny_sam.prompt_encoder(
                None if points is None else (points[0][alone], points[1][alone]),
                None if boxes is None else boxes[alone],
                None if masks is None else masks[alone],
            )
            wanted, iou = tiny_sam.mask_decoder.predict_masks(
                embeddings[alone], tiny_sam.prompt_encoder.get_dense_pe(), sparse, dense
            )
            torch.testing.assert_close(logits[alone], wanted, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(scores[alone], iou, atol=1e-4, rtol=1e-4)
