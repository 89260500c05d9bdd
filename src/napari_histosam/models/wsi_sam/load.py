"""From WSI-SAM's three files to a prompt model on a device; and its decoders back into files."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from napari_histosam.errors import InputError
from napari_histosam.models.checkpoint import shapes
from napari_histosam.models.detect import VIT_WIDTHS, mismatch
from napari_histosam.models.devices import choose_device
from napari_histosam.models.files import atomic_file
from napari_histosam.models.parts import ROLE, encoder_of
from napari_histosam.models.sam.build import load_sam
from napari_histosam.models.wsi_sam.decoder import EARLY, TokenDecoder, is_added
from napari_histosam.models.wsi_sam.model import WsiSamModel
from napari_histosam.models.wsi_sam.network import WsiSam

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.parts import Part

_log = logging.getLogger(__name__)
# A card's variant for decoders that were trained behind an encoder without attention biases.
# Upstream's training script left them at zero with this encoder, its inference script does not.
NO_BIASES = "vit_t-no-attention-biases"


def load_wsi_sam(
    card: ModelCard,
    parts: Mapping[str, Part],
    weights_hash: str,
    device: str = "auto",
    say: Callable[[str], None] | None = None,
) -> WsiSamModel:
    """Load WSI-SAM.

    Parameters
    ----------
    card : ModelCard
        Its variant ``"vit_t-no-attention-biases"`` sets the encoder's attention biases to zero.
    parts : mapping of str to Part
        ``"encoder"`` (MobileSAM, or a SAM on the bundled encoder), ``"high"`` and ``"low"``.
    weights_hash : str
        Of all files together.
    device : str
    say : callable of str, optional

    Raises
    ------
    InputError
        If a file does not fit.
    """
    tell = say or _log.info
    net = network(parts, tell, biases=card.variant != NO_BIASES)
    chosen = choose_device(device)
    tell(chosen.message)
    return WsiSamModel(card, net, weights_hash, chosen.name, say)


def network(
    parts: Mapping[str, Part], tell: Callable[[str], None], *, biases: bool = True
) -> WsiSam:
    """Return the network with its weights, in eval mode, float32, on the CPU.

    The decoders' part that is SAM's comes from their own files or, where they hold only what
    WSI-SAM adds, from MobileSAM's.
    """
    encoder = parts["encoder"]
    state = dict(encoder.state)
    if not biases:
        for name, value in encoder.state.items():
            if name.startswith("image_encoder.") and name.endswith(".attention_biases"):
                state[name] = torch.zeros_like(value)
    sam = load_sam(state, encoder.path.name, encoder_of("wsi-sam", encoder))
    plain = sam.mask_decoder.state_dict()
    high, low = (_decoder(parts[side], plain, encoder, tell) for side in ("high", "low"))
    return WsiSam(sam.image_encoder, sam.prompt_encoder, high, low).eval()


def save_decoder(
    state: Mapping[str, Tensor],
    role: str,
    path: Path,
    epoch: int = 0,
    labels: Mapping[str, str] | None = None,
) -> None:
    """Write a decoder as upstream does, ``{"model", "epoch"}``, labelled with its role.

    Parameters
    ----------
    state : mapping of str to Tensor
    role : {"high", "low"}
    path : Path
        Written whole or not at all.
    epoch : int
    labels : mapping of str to str, optional
        Texts to lie beside the weights.
    """
    with atomic_file(path) as out:
        torch.save({"model": dict(state), "epoch": epoch, **(labels or {}), ROLE: role}, out)


def fresh_decoder(sam: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a decoder to be trained from nothing: SAM's own, and random weights for the rest.

    Parameters
    ----------
    sam : mapping of str to Tensor
        Of the encoder's file, under its published names.
    """
    decoder, start = TokenDecoder(), "mask_decoder."
    own = {k.removeprefix(start): v for k, v in sam.items() if k.startswith(start)}
    return {**decoder.state_dict(), **own}


def check_decoder(part: Part) -> None:
    """Raise InputError unless a file holds all of a decoder, or all that WSI-SAM adds to SAM's."""
    first = part.state.get("compress_vit_feat.0.weight")
    if first is not None and first.dim() and first.shape[0] != EARLY:
        size = VIT_WIDTHS.get(first.shape[0], "another size")
        raise InputError(
            f"{part.path.name} was trained with an encoder of {size}, not with MobileSAM's "
            "(vit_t): get the decoders for vit_t."
        )
    expected = shapes(_empty().state_dict())
    if not any(name in expected and not is_added(name) for name in part.state):
        expected = {name: shape for name, shape in expected.items() if is_added(name)}
    wrong = mismatch(expected, shapes(part.state))
    if wrong is not None:
        raise InputError(
            f"{part.path.name} does not fit the {part.name}-resolution decoder of WSI-SAM "
            f"({wrong}): get the whole, unchanged file."
        )


def _decoder(
    part: Part, plain: Mapping[str, Tensor], encoder: Part, tell: Callable[[str], None]
) -> TokenDecoder:
    check_decoder(part)
    state = {**plain, **{name: value.detach() for name, value in part.state.items()}}
    if any(not torch.equal(state[name], value) for name, value in plain.items()):
        tell(
            f"{part.path.name} brings another SAM decoder than {encoder.path.name}; its own is "
            "used."
        )
    decoder = _empty().to_empty(device="cpu")
    decoder.load_state_dict(state)
    return decoder


def _empty() -> TokenDecoder:
    with torch.device("meta"):
        return TokenDecoder()


def added(decoder: TokenDecoder) -> dict[str, Tensor]:
    """Return the 25 tensors that WSI-SAM adds and trains, by name."""
    return {name: value for name, value in decoder.named_parameters() if is_added(name)}
