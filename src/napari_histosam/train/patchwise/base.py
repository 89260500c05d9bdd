"""What a training from patch labels begins with: a base's networks, and the card to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_histosam.models.ep_sam.cam import PROFILES
from napari_histosam.models.ep_sam.frame import Recipe
from napari_histosam.models.ep_sam.load import network
from napari_histosam.models.parts import divided
from napari_histosam.models.trained import weights_of
from napari_histosam.train.patchwise.patches import Patches
from napari_histosam.train.windowed.validation import spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.ep_sam.network import EpSam
    from napari_histosam.models.registry import ModelRegistry
    from napari_histosam.train.patchwise.labels import PatchEntry
    from napari_histosam.train.patchwise.plan import PatchPlan

DECODER = "mask_decoder."
# Patches whose µm per px differ by more than this share are told of; so many are looked at.
_ALIKE, _LOOKED_AT = 0.1, 200


def card_of(base: ModelCard, plan: PatchPlan, mpp: float | None = None) -> ModelCard:
    """Return the card of what a plan makes of a base, but for its name and its origin.

    Parameters
    ----------
    base : ModelCard
    plan : PatchPlan
    mpp : float, optional
        From `scale_of`.

    Raises
    ------
    InputError
        If the base's recipe makes no sense.
    """
    before = Recipe.of(base)
    usual = before.profile if plan.profile is None else PROFILES[plan.profile]
    recipe = {
        **base.recipe,
        "channel_order": "rgb",
        "points_frame": "sam",
        "cam_profile": plan.profile or base.recipe.get("cam_profile", "camelyon16"),
        "percentile": usual.percentile if plan.percentile is None else plan.percentile,
        "agreement": plan.agreement,
        "selection": "weak",
    }
    return replace(base, window_px=plan.patch_px or base.window_px, mpp=mpp, recipe=recipe)


def begun(registry: ModelRegistry, plan: PatchPlan) -> tuple[EpSam, dict[str, Tensor]]:
    """Return a base's networks, and SAM's own decoder, in which each round begins; on the CPU.

    A classifier of the authors' files, which knows red and blue exchanged, is given the channels of
    its first layer in the slide's order: it says the same of every patch.

    Raises
    ------
    InputError
        If the base's files are missing or damaged.
    """
    base = registry.get(plan.model)
    parts = divided(weights_of(registry, base.name), Path(base.name))
    net = network(parts)
    if Recipe.of(base).channel_order == "bgr":
        first = net.classifier.conv1.weight
        first.data = first.data[:, [2, 1, 0, 3]].clone()
    own = {
        name.removeprefix(DECODER): value.detach().clone()
        for name, value in parts["encoder"].state.items()
        if name.startswith(DECODER)
    }
    return net, own


def scale_of(entries: Sequence[PatchEntry], side: int) -> tuple[float | None, str]:
    """Return the µm per px of patches at their side, where they are known, and what to say of it.

    A patch of the data is a patch of the model, so that the model gets the scale of its data.
    """
    patches = Patches(side)
    known = [patches.scale(entry) for entry in spread(entries, _LOOKED_AT)]
    found = [value for value in known if value is not None]
    if not found:
        return None, (
            "The patches name no mpp, so the model has none: it looks at whatever scale is shown."
        )
    middle = float(np.median(found))
    if len(found) < len(known) or max(abs(value / middle - 1) for value in found) > _ALIKE:
        return middle, (
            f"Not all patches are of one scale ({middle:.3g} µm per px at {side} px a side): one "
            "scale is learned best."
        )
    return middle, ""
