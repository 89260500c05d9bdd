"""From EP-SAM's files to a model on a device; new ones from a plain SAM; and back into files."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from segment_anything.modeling import ImageEncoderViT

from napari_histosam.errors import InputError
from napari_histosam.models.checkpoint import LABELS, shapes
from napari_histosam.models.detect import mismatch
from napari_histosam.models.devices import choose_device
from napari_histosam.models.ep_sam.classifier import PatchClassifier
from napari_histosam.models.ep_sam.model import EpSamModel
from napari_histosam.models.ep_sam.network import EpSam
from napari_histosam.models.files import atomic_file
from napari_histosam.models.parts import encoder_of
from napari_histosam.models.sam.attention import attend_in_steps
from napari_histosam.models.sam.build import build_mask_decoder, fitting_sam, load_sam

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.parts import Part

_log = logging.getLogger(__name__)
_DECODER = "mask_decoder."


def load_ep_sam(
    card: ModelCard,
    parts: Mapping[str, Part],
    weights_hash: str,
    device: str = "auto",
    say: Callable[[str], None] | None = None,
) -> EpSamModel:
    """Load EP-SAM.

    Parameters
    ----------
    card : ModelCard
        Its recipe is read by `napari_histosam.models.ep_sam.frame.Recipe`.
    parts : mapping of str to Part
        ``"encoder"`` (a plain SAM), ``"classifier"`` and ``"decoder"``.
    weights_hash : str
        Of all files together.
    device : str
    say : callable of str, optional

    Raises
    ------
    InputError
        If a file does not fit.
    """
    net = network(parts)
    chosen = choose_device(device)
    (say or _log.info)(chosen.message)
    return EpSamModel(card, net, weights_hash, chosen.name, say)


def network(parts: Mapping[str, Part]) -> EpSam:
    """Return the network with its weights, in eval mode, float32, on the CPU."""
    base, judge, decoder = parts["encoder"], parts["classifier"], parts["decoder"]
    for part in (judge, decoder):
        check_part(part)
    variant = encoder_of("ep-sam", base)
    sam = load_sam({**base.state, **decoder.state}, base.path.name, variant)
    if isinstance(sam.image_encoder, ImageEncoderViT):
        attend_in_steps(sam.image_encoder)
    with torch.device("meta"):
        classifier = PatchClassifier()
    classifier.to_empty(device="cpu")
    classifier.load_state_dict({name: value.detach() for name, value in judge.state.items()})
    return EpSam(classifier, sam).eval()


def check_part(part: Part) -> None:
    """Raise InputError unless a file holds the whole classifier or the whole decoder."""
    with torch.device("meta"):
        if part.name == "classifier":
            expected = shapes(PatchClassifier().state_dict())
        else:
            own = shapes(build_mask_decoder().state_dict())
            expected = {_DECODER + name: shape for name, shape in own.items()}
    wrong = mismatch(expected, shapes(part.state))
    if wrong is not None:
        raise InputError(
            f"{part.path.name} does not fit the {part.name} of EP-SAM ({wrong}): get the whole, "
            "unchanged file."
        )


def fresh(
    sam: Mapping[str, Tensor], *, seed: int = 0, source: str = "The base"
) -> dict[str, dict[str, Tensor]]:
    """Return an EP-SAM to be trained: a classifier at random, and SAM's own decoder.

    Parameters
    ----------
    sam : mapping of str to Tensor
        Of a plain SAM, or of one on the bundled encoder, under its published names.
    seed : int
    source : str
        For messages.

    Returns
    -------
    dict of str to dict
        ``"classifier"`` and ``"decoder"``, under the names of the authors' files.

    Raises
    ------
    InputError
        If the base is no SAM.
    """
    fitting_sam(shapes(sam), source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = PatchClassifier()
    return {
        "classifier": {name: value.detach() for name, value in classifier.state_dict().items()},
        "decoder": {
            name: v.detach().clone() for name, v in sam.items() if name.startswith(_DECODER)
        },
    }


def state_of(net: EpSam) -> dict[str, dict[str, Tensor]]:
    """Return classifier and decoder under the names of the authors' files, on the CPU."""
    named = {
        "classifier": net.classifier.state_dict(),
        "decoder": {_DECODER + k: v for k, v in net.sam.mask_decoder.state_dict().items()},
    }
    return {
        part: {name: value.detach().to("cpu", copy=True) for name, value in state.items()}
        for part, state in named.items()
    }


def save_part(
    state: Mapping[str, Tensor], path: Path, labels: Mapping[str, str] | None = None
) -> None:
    """Write a classifier or a decoder as the authors do, a bare state dict, whole or not at all.

    ``labels`` are texts to go with it. They lie where torch keeps its own notes about a state dict,
    so that there is no name in it that its loaders do not expect.
    """
    bare = OrderedDict(state)
    bare._metadata = OrderedDict({LABELS: dict(labels or {})})  # type: ignore[attr-defined]
    with atomic_file(path) as out:
        torch.save(bare, out)
