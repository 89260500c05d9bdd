"""From I-MedSAM's two files to a prompt model on a device; and what was trained back into one."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

import torch

from napari_histosam.errors import InputError
from napari_histosam.models.checkpoint import shapes
from napari_histosam.models.detect import detect, mismatch
from napari_histosam.models.devices import choose_device
from napari_histosam.models.files import atomic_file
from napari_histosam.models.i_medsam.encoder import TARGETS, resized_tables
from napari_histosam.models.i_medsam.model import IMedSamModel
from napari_histosam.models.i_medsam.network import IMedSam, published_names
from napari_histosam.models.parts import encoder_of
from napari_histosam.models.sam.build import BUNDLED, PATCH, fitting_sam

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.parts import Part

_log = logging.getLogger(__name__)
_ENCODER = "image_encoder."
_HEAD = re.compile(r"^mask_decoder\.seg_field\.seg_net\.2\.(\d+)\.0\.weight$")
_UPDATES = (".qkv.down.", ".qkv.up.", ".qkv.gate")
_ADAPTER = "image_encoder.blocks.0.freq_adapter.D_fc1.weight"


def load_i_medsam(
    card: ModelCard,
    parts: Mapping[str, Part],
    weights_hash: str,
    device: str = "auto",
    say: Callable[[str], None] | None = None,
) -> IMedSamModel:
    """Load I-MedSAM.

    Parameters
    ----------
    card : ModelCard
        Its ``window_px`` is the side of the square that the weights were trained for, which no
        file tells.
    parts : mapping of str to Part
        ``"encoder"`` (SAM's ViT-B) and ``"adapted"``.
    weights_hash : str
        Of both files together.
    device : str
    say : callable of str, optional

    Raises
    ------
    InputError
        If a file does not fit.
    """
    tell = say or _log.info
    net = network(parts, card.window_px)
    classes = net.mask_decoder.seg_field.classes
    if classes > 1:
        tell(f"{parts['adapted'].path.name} knows {classes} classes; the first one is used.")
    chosen = choose_device(device)
    tell(chosen.message)
    return IMedSamModel(card, net, weights_hash, chosen.name, say)


def network(parts: Mapping[str, Part], side: int) -> IMedSam:
    """Return the network with its weights, in eval mode, float32, on the CPU.

    Parameters
    ----------
    parts : mapping of str to Part
    side : int
        Px of the square that it sees.
    """
    if side % PATCH or side <= 0:
        raise InputError(f"The window of I-MedSAM must be a multiple of {PATCH} px, not {side}.")
    base, adapted = parts["encoder"], parts["adapted"]
    variant = encoder_of("i-medsam", base)
    fitting_sam(shapes(base.state), base.path.name, variant)
    bundled = variant == BUNDLED
    if bundled != is_plain(adapted.state):
        raise InputError(
            f"{adapted.path.name} was trained behind {'a' if bundled else 'no'} ViT, and "
            f"{base.path.name} holds {'none' if bundled else 'one'}: bring the encoder that it "
            "was trained with."
        )
    net = check_adapted(adapted, side)
    stock = {
        name.removeprefix(_ENCODER): value
        for name, value in base.state.items()
        if name.startswith(_ENCODER)
    }
    tables = stock if bundled else resized_tables(stock, _stock_shapes(net))
    own = {f"image_encoder.vit.{name}": value for name, value in tables.items()}
    names = published_names(net)
    own.update({ours: adapted.state[name].detach() for name, ours in names.items()})
    net.to_empty(device="cpu")
    net.load_state_dict({name: value.detach() for name, value in own.items()})
    return net.eval()


def check_adapted(part: Part, side: int = 384) -> IMedSam:
    """Return the network, without weights, that a checkpoint of I-MedSAM fits.

    Raises
    ------
    InputError
        If something is missing or has another shape.
    """
    state = part.state
    downs = sum(name.startswith("w_a_") for name in state)
    gates = sum(name.startswith("w_g_") for name in state)
    projections = downs // gates if gates else 2
    first, narrow = state.get("w_a_000"), state.get(_ADAPTER)
    rank = int(first.shape[0]) if first is not None and first.dim() == 2 else 4
    hidden = int(narrow.shape[0]) if narrow is not None and narrow.dim() == 2 else 4
    classes = max(sum(bool(_HEAD.match(name)) for name in state), 1)
    with torch.device("meta"):
        known = projections if projections in TARGETS else 2
        net = IMedSam(side, rank, known, classes, hidden, bundled=is_plain(state))
    own = net.state_dict()
    expected = {name: tuple(own[ours].shape) for name, ours in published_names(net).items()}
    wrong = mismatch(expected, shapes(state))
    if wrong is not None:
        raise InputError(
            f"{part.path.name} does not fit I-MedSAM with SAM's ViT-B ({wrong}): get the whole, "
            "unchanged checkpoint."
        )
    return net


def is_plain(state: Mapping[str, Tensor]) -> bool:
    """Tell whether a checkpoint adapts no encoder: it was trained behind the bundled one."""
    return not any(name.startswith(("w_", _ENCODER)) for name in state)


def fresh_adapted(sam: Mapping[str, Tensor], side: int = 384) -> dict[str, Tensor]:
    """Return a checkpoint to be trained from nothing: SAM's decoder, random weights for the rest.

    Parameters
    ----------
    sam : mapping of str to Tensor
        Of SAM's ViT-B, or of one on the bundled encoder, under its published names.
    side : int
        Px of the square.
    """
    bundled = detect(shapes(sam)).variant == BUNDLED
    state = adapted_state(IMedSam(side, bundled=bundled))
    return {name: sam.get(name, value).detach() for name, value in state.items()}


def adapted_state(net: IMedSam) -> dict[str, Tensor]:
    """Return what a checkpoint of I-MedSAM holds, under upstream's names, on the CPU."""
    own = net.state_dict()
    return {name: own[ours].detach().cpu() for name, ours in published_names(net).items()}


def save_adapted(
    state: Mapping[str, Tensor],
    path: Path,
    epoch: int = 0,
    labels: Mapping[str, str] | None = None,
) -> None:
    """Write a checkpoint as upstream does, ``{"model", "epoch"}``, whole or not at all.

    ``labels`` are texts to lie beside the weights.
    """
    with atomic_file(path) as out:
        torch.save({"model": dict(state), "epoch": epoch, **(labels or {})}, out)


def _stock_shapes(net: IMedSam) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the encoder's weights that come from SAM's file."""
    vit: Any = net.image_encoder.vit
    own = vit.state_dict()
    return {
        name: tuple(value.shape)
        for name, value in own.items()
        if not any(part in name for part in _UPDATES)
    }
