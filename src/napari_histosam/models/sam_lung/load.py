"""From SAM-Lung's files to a model on a device; a new one from a plain SAM; and back into files."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from napari_histosam.errors import InputError
from napari_histosam.models.checkpoint import shapes
from napari_histosam.models.detect import detect, mismatch
from napari_histosam.models.devices import choose_device
from napari_histosam.models.files import atomic_file
from napari_histosam.models.sam.build import BUNDLED, fitting_sam
from napari_histosam.models.sam_lung.frame import AS_SAM
from napari_histosam.models.sam_lung.model import SamLungModel
from napari_histosam.models.sam_lung.network import (
    WRAPPED,
    SamLung,
    build,
    is_learned,
    published_from_sam,
    published_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard

_log = logging.getLogger(__name__)
_CLASSIFIER = "mask_decoder.classifier.weight"
_DECODER = ("mask_decoder.psp_module.", "mask_decoder.classifier.")
_CBAM = "mask_decoder.psp_module.stages.0.1.channel_att.fc1.weight"
# SAM's own parts that its authors' files carry along and that are not used.
_UNUSED = ("image_encoder.sam.prompt_encoder.", "image_encoder.sam.mask_decoder.")
_SAM_ENCODERS = ("image_encoder.patch_embed.proj.weight", "image_encoder.trunk.out16.0.weight")
_TRUNK = f"{WRAPPED}trunk."


def sam_lung_model(
    card: ModelCard,
    state: Mapping[str, Tensor],
    source: str,
    weights_hash: str,
    device: str = "auto",
    say: Callable[[str], None] | None = None,
    others: Sequence[ModelCard] = (),
) -> SamLungModel:
    """Make a region model of weights.

    Arguments as `napari_histosam.models.families.Family.model` has them. Where the weights have
    another number of classes than the card, the classes are numbered.
    """
    tell = say or _log.info
    net = network(state, source, as_sam=card.recipe.get("encoder") == AS_SAM)
    count = net.outputs - 1
    if count != len(card.classes):
        card = replace(card, classes=tuple(f"Class {n}" for n in range(1, count + 1)))
        tell(f"{source} tells {count} classes apart and does not name them: they are numbered.")
    chosen = choose_device(device)
    tell(chosen.message)
    return SamLungModel(card, net, weights_hash, chosen.name, say)


def network(state: Mapping[str, Tensor], source: str, *, as_sam: bool = False) -> SamLung:
    """Return the network with its weights, in eval mode, float32, on the CPU.

    Parameters
    ----------
    state : mapping of str to Tensor
        As `whole` takes it.
    source : str
        For messages.
    as_sam : bool
        See `napari_histosam.models.sam_lung.encoder.LungEncoder`.

    Raises
    ------
    InputError
        If the weights do not fit.
    """
    full = whole(state, source)
    net = fitting(shapes(full), source, as_sam=as_sam).to_empty(device="cpu")
    own = {name: full[published_name(name)].detach() for name in net.state_dict()}
    net.load_state_dict(own)
    return net.eval()


def whole(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return all weights under the authors' names.

    Parameters
    ----------
    state : mapping of str to Tensor
        What the authors' trainer writes, or a plain SAM's weights together with those that
        were trained on it (`napari_histosam.models.sam_lung.network.learned_state`).
    source : str
        For messages.

    Raises
    ------
    InputError
        If it is something else, or lacks the decoder or the base.
    """
    if _CLASSIFIER not in state:
        raise InputError(_no_decoder(state, source))
    if not any(name in state for name in _SAM_ENCODERS):
        return dict(state)
    out = {}
    for name, value in state.items():
        # What is SAM's carries SAM's own name, and no name of what was trained on it is among them.
        theirs = name if is_trained_on_sam(name) else published_from_sam(name)
        out[theirs or name] = value
    return out


def is_trained_on_sam(name: str) -> bool:
    """Tell whether a weight beside those of a plain SAM is SAM-Lung's, by its published name."""
    return is_learned(name) and name.startswith((*_DECODER, WRAPPED))


def on_bundled(names: Collection[str]) -> bool:
    """Tell from the authors' names whether an encoder is the bundled one."""
    return any(name.startswith(_TRUNK) for name in names)


def fitting(found: Mapping[str, tuple[int, ...]], source: str, *, as_sam: bool = False) -> SamLung:
    """Return the network, without weights, that names and shapes fit; see `network`."""
    classifier = found.get(_CLASSIFIER, (2,))
    with torch.device("meta"):
        net = build(
            max(int(classifier[0]), 1),
            cbam=_CBAM in found,
            as_sam=as_sam,
            bundled=on_bundled(found),
        )
    own = net.state_dict()
    expected = {published_name(name): tuple(value.shape) for name, value in own.items()}
    used = {name: shape for name, shape in found.items() if not name.startswith(_UNUSED)}
    wrong = mismatch(expected, used)
    if wrong is not None:
        advice = "get the whole, unchanged best_model.pth"
        if not any(name.startswith("image_encoder.sam.image_encoder.patch") for name in found):
            advice = "bring the file that holds SAM's encoder, too, best_model.pth"
        encoder = "the bundled encoder" if on_bundled(found) else "SAM's ViT-B"
        raise InputError(f"{source} does not fit SAM-Lung with {encoder} ({wrong}): {advice}.")
    if net.outputs < 2:
        raise InputError(f"{source} knows no class beside the background: get another file.")
    return net


def fresh(
    sam: Mapping[str, Tensor],
    classes: int = 1,
    *,
    cbam: bool = True,
    identity: bool = False,
    seed: int = 0,
    source: str = "The base",
) -> dict[str, Tensor]:
    """Return a SAM-Lung to be trained: SAM's encoder, adapters and decoder at random.

    Parameters
    ----------
    sam : mapping of str to Tensor
        Of a plain SAM with the ViT-B encoder, or of one on the bundled encoder, which takes no
        adapters; under its published names.
    classes : int
        Without the background.
    cbam : bool
        With attention in the decoder, as the authors describe it; their release has none.
    identity : bool
        Start the adapters without effect; the authors start them at random.
    seed : int
    source : str
        For messages.

    Returns
    -------
    dict of str to Tensor
        Under the authors' names, SAM's unused parts included.

    Raises
    ------
    InputError
        If the base is neither.
    """
    found = shapes(sam)
    bundled = detect(found).variant == BUNDLED
    fitting_sam(found, source, BUNDLED if bundled else "vit_b")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build(classes + 1, cbam=cbam, identity=identity, bundled=bundled)
    own = {published_name(name): value.detach() for name, value in net.state_dict().items()}
    base = {published_from_sam(name): value.detach() for name, value in sam.items()}
    return {**own, **{name: value for name, value in base.items() if name is not None}}


def save(state: Mapping[str, Tensor], path: Path, epoch: int = 0) -> None:
    """Write all weights as the authors' trainer does, ``{"model", "epoch"}``, whole or not."""
    with atomic_file(path) as out:
        torch.save({"model": dict(state), "epoch": epoch}, out)


def _no_decoder(state: Mapping[str, Tensor], source: str) -> str:
    kind = detect(shapes(state))
    if kind.variant == "adapters":
        return (
            f"{source} holds only the adapters of SAM-Lung, without the decoder: bring "
            "best_model.pth, which holds both."
        )
    if kind.decoder == "sam":
        return (
            f"{source} is {kind.what}, from which a SAM-Lung can be trained, and knows no regions "
            "itself: bring the best_model.pth that SAM-Lung's trainer writes."
        )
    return (
        f"{source} looks like {kind.what}, not like SAM-Lung: bring the best_model.pth that its "
        "trainer writes."
    )
