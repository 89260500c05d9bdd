"""From a checkpoint of DES-SAM to the network; and a new one from any SAM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from napari_histosam.errors import InputError
from napari_histosam.models.checkpoint import shapes
from napari_histosam.models.des_sam.network import LEARNED, DesSam, begin
from napari_histosam.models.detect import detect, mismatch
from napari_histosam.models.sam.build import build_sam, load_sam, published_names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from torch import Tensor

    Shapes = Mapping[str, tuple[int, ...]]

_CLASSES = "roi_head.bbox_head.fc_cls.weight"
_JUDGE = "iou_prediction_head."
# SAM's part -> where its weights go.
_FROM_SAM = {
    "image_encoder.": ("backbone.",),
    "prompt_encoder.": ("roi_head.prompt_encoder.",),
    "mask_decoder.": ("roi_head.mask_head.", "roi_head.mask_label_head."),
}
_BRANCH = ("roi_head.prompt_encoder.", "roi_head.mask_head.", "roi_head.mask_label_head.")


def network(state: Mapping[str, Tensor], source: str) -> DesSam:
    """Return the network with its weights, in eval mode, float32, on the CPU.

    Parameters
    ----------
    state : mapping of str to Tensor
        Under upstream's names. A second mask decoder that is not there is the first one; see
        `has_token` for the token.
    source : str
        For messages.

    Raises
    ------
    InputError
        If names or shapes do not fit; the sentence lists the first few.
    """
    whole = _whole(state)
    net = fitting(shapes(whole), source)
    net.load_state_dict({ours: whole[name] for name, ours in net.names().items()})
    return net.eval()


def has_token(names: Collection[str]) -> bool:
    """Tell whether a checkpoint holds the learned token."""
    return LEARNED in names


def lacks_masks(names: Iterable[str]) -> bool:
    """Tell whether a checkpoint holds the detector without the branch that draws masks."""
    known = list(names)
    return any(not any(name.startswith(part) for name in known) for part in _BRANCH[:2])


def fitting(found: Shapes, source: str) -> DesSam:
    """Return the network, its weights not set, that takes exactly these names and shapes."""
    whole = _whole(found)
    if lacks_masks(whole):
        raise InputError(
            f"{source} holds DES-SAM's detector without its masks, which are a SAM's: give the SAM "
            "that it was trained on (sam_vit_b_01ec64.pth) together with it."
        )
    rows = whole.get(_CLASSES, (2, 1))
    classes = max(rows[0] - 1, 1)
    kind = detect(_as_sam(whole))
    net = DesSam(build_sam(kind.variant or "vit_b"), classes)
    own = net.state_dict()
    expected = {name: tuple(own[ours].shape) for name, ours in net.names().items()}
    wrong = mismatch(expected, whole)
    if wrong is not None:
        raise InputError(
            f"{source} does not fit DES-SAM ({wrong}): get the whole, unchanged checkpoint."
        )
    return net


def completed(
    state: Mapping[str, Tensor], sam: Mapping[str, Tensor], source: str
) -> dict[str, Tensor]:
    """Return a detector's checkpoint with its mask branch, taken from a SAM.

    Parameters
    ----------
    state : mapping of str to Tensor
        Of DES-SAM; what it has stays.
    sam : mapping of str to Tensor
        Under SAM's names.
    source : str
        The SAM's file, for messages.

    Raises
    ------
    InputError
        If the encoders are not of one size.
    """
    own = load_sam(sam, source)
    rest = _moved({name: own.state_dict()[ours] for name, ours in published_names(own).items()})
    for name, value in rest.items():
        if name.startswith("backbone.") and shapes(state).get(name) != tuple(value.shape):
            raise InputError(
                f"{source} is not the SAM that this DES-SAM was made from ({name} differs): give "
                "that one."
            )
    branch = {k: v for k, v in rest.items() if k.startswith(_BRANCH)}
    return {**branch, **state}


def fresh(sam: Mapping[str, Tensor], classes: int = 1, seed: int = 0) -> dict[str, Tensor]:
    """Return an untrained DES-SAM: a SAM's weights, and random ones for what no SAM has.

    Parameters
    ----------
    sam : mapping of str to Tensor
        Of any SAM, under its published names.
    classes : int
        Without the background.
    seed : int
        Of the random weights.

    Returns
    -------
    dict of str to Tensor
        Under upstream's names.

    Raises
    ------
    InputError
        If it is no SAM.
    """
    net = DesSam(load_sam(sam, "the file to begin with"), classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        begin(net)
    own = net.state_dict()
    return {name: own[ours].detach().clone().contiguous() for name, ours in net.names().items()}


def _whole(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return names with what may be left out: the teacher's decoder, the token."""
    out = dict(state)
    if not any(name.startswith(_BRANCH[2]) for name in out):
        own = [name for name in out if name.startswith(_BRANCH[1]) and name != LEARNED]
        out.update({_BRANCH[2] + name.removeprefix(_BRANCH[1]): out[name] for name in own})
    if not has_token(out) and not lacks_masks(out):
        first = next(iter(out.values()))
        out[LEARNED] = torch.zeros(1, 256) if isinstance(first, torch.Tensor) else (1, 256)
    for name in [n for n in out if n.startswith(_BRANCH[1:]) and _JUDGE in n]:
        del out[name]
    return out


def _as_sam(found: Shapes) -> dict[str, tuple[int, ...]]:
    """Return shapes under the names that a SAM has them, as far as it has them."""
    out: dict[str, tuple[int, ...]] = {}
    for theirs, ours in _FROM_SAM.items():
        start = ours[0]
        out.update(
            {
                theirs + name.removeprefix(start): shape
                for name, shape in found.items()
                if name.startswith(start) and name != LEARNED
            }
        )
    return out


def _moved(sam: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a SAM's weights under DES-SAM's names."""
    out = {}
    for theirs, ours in _FROM_SAM.items():
        for name, value in sam.items():
            rest = name.removeprefix(theirs)
            if name.startswith(theirs) and not rest.startswith(_JUDGE):
                out.update({start + rest: value for start in ours})
    return out
