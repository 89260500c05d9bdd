"""Tells from the names and shapes in a checkpoint which decoder it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Shapes = Mapping[str, tuple[int, ...]]

# Width of the ViT trunk -> size, as segment-anything builds them.
VIT_WIDTHS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
_PROJECTION = "image_encoder.patch_embed.proj.weight"
_PROMPTED = {"mask_decoder.iou_token.weight", "prompt_encoder.no_mask_embed.weight"}
_LEARNED = "roi_head.mask_head.learned_prompt.weight"
_TINY_STEM = "image_encoder.patch_embed.seq.0.c.weight"
_BUNDLED = "image_encoder.trunk.out16.0.weight"


@dataclass(frozen=True)
class Detected:
    """What a checkpoint seems to be.

    Parameters
    ----------
    decoder : str, optional
        The family; None where nothing is recognised.
    variant : str, optional
        Its size or part, for example ``"vit_b"``.
    what : str
        The same for people.
    """

    decoder: str | None
    variant: str | None
    what: str


def detect(shapes: Shapes) -> Detected:
    """Return the family of a checkpoint.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Names and shapes after wrappers and shared prefixes were taken away.
    """
    own = _special(shapes)
    if own is not None:
        return own
    if set(shapes) >= _PROMPTED:
        if _TINY_STEM in shapes:
            return Detected("sam", "vit_t", "MobileSAM (SAM with the ViT-T encoder)")
        if _BUNDLED in shapes:
            return Detected("sam", "bundled", "SAM's decoder on the bundled encoder")
        width = shapes.get(_PROJECTION, (0,))[0]
        if width in VIT_WIDTHS:
            variant = VIT_WIDTHS[width]
            return Detected("sam", variant, f"SAM with the {variant.replace('_', '-')} encoder")
    return Detected(None, None, "a checkpoint of a kind that is not known here")


def _special(shapes: Shapes) -> Detected | None:
    keys = set(shapes)
    if "judge.tell.weight" in keys:
        return Detected("histosam-small", None, "weights of histosam-small")
    if "hf_token.weight" in keys:
        return Detected("wsi-sam", "decoder", "one of the two decoder files of WSI-SAM")
    if "w_a_000" in keys or _any(keys, "mask_decoder.seg_field."):
        return Detected("i-medsam", "adapted", "I-MedSAM")
    if _LEARNED in keys or (_any(keys, "neck.stages.") and _any(keys, "rpn_head.rpn_conv.")):
        return Detected("des-sam", None, "DES-SAM")
    if _any(keys, "roi_head."):
        return Detected(None, None, "another detector of mmdetection, which has no decoder here")
    if _any(keys, "mask_decoder.psp_module.") or any(".original_block." in k for k in keys):
        return Detected("sam-lung", None, "SAM-Lung")
    if any(".mona1." in k for k in keys) and not keys >= _PROMPTED:
        return Detected("sam-lung", "adapters", "the adapters of SAM-Lung")
    if keys and all(k.startswith("mask_decoder.") for k in keys):
        return Detected("ep-sam", "decoder", "the decoder file of EP-SAM")
    if shapes.get("conv1.weight") == (64, 4, 7, 7) and "layer4.3.conv1.weight" in keys:
        return Detected("ep-sam", "classifier", "the classifier file of EP-SAM")
    if _any(keys, "mask_decoder.hf_token"):
        return Detected(None, None, "HQ-SAM, which has no decoder here")
    if _any(keys, "image_encoder.trunk.blocks."):
        return Detected(None, None, "SAM 2, which has no decoder here")
    return None


def _any(keys: set[str], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in keys)


def mismatch(
    expected: Shapes, found: Shapes, optional: Sequence[str] = (), show: int = 3
) -> str | None:
    """Return what does not fit between two sets of names and shapes, or None if all does.

    Parameters
    ----------
    expected, found : mapping of str to tuple of int
    optional : sequence of str
        Names that may be missing or present.
    show : int
        Names to list of each kind.
    """
    skip = set(optional)
    missing = [k for k in expected if k not in found and k not in skip]
    unexpected = [k for k in found if k not in expected and k not in skip]
    wrong = [
        f"{k} {_size(found[k])} in place of {_size(expected[k])}"
        for k in expected
        if k in found and tuple(found[k]) != tuple(expected[k])
    ]
    parts = [
        f"{label} {_some(names, show)}"
        for label, names in (("missing", missing), ("unexpected", unexpected), ("shape of", wrong))
        if names
    ]
    return "; ".join(parts) or None


def _some(names: Sequence[str], show: int) -> str:
    rest = len(names) - show
    return ", ".join(names[:show]) + (f" and {rest} more" if rest > 0 else "")


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
