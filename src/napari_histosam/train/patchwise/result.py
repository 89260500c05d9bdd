"""Makes a model of a training from patch labels, whole or so far as it has come."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_histosam.errors import InputError
from napari_histosam.models.cards import Trained
from napari_histosam.models.trained import base_hash, keep_trained
from napari_histosam.records import now
from napari_histosam.train.finetune.folder import RunFolder
from napari_histosam.train.patchwise.base import card_of, scale_of

if TYPE_CHECKING:
    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.registry import ModelRegistry
    from napari_histosam.train.patchwise.division import PatchDivision
    from napari_histosam.train.patchwise.plan import PatchPlan

_PATENT = "Its authors name a patent application (KR 10-2024-0117533): for research use."


def keep(registry: ModelRegistry, plan: PatchPlan, division: PatchDivision, name: str) -> ModelCard:
    """Put what a run has learned among the user's models, in the place of what it put there before.

    Parameters
    ----------
    registry : ModelRegistry
    plan : PatchPlan
    division : PatchDivision
    name : str
        Of the model.

    Returns
    -------
    ModelCard
        Its recipe says channels, points, heat map's profile and percentile, agreement, and that
        patch labels alone chose it; its origin the groups that it learned from.

    Raises
    ------
    InputError, HistosamError
        If the run has not come far enough, or the folder cannot be written.
    """
    folder = RunFolder(plan.out)
    if not folder.best.is_file():
        raise InputError(f"{plan.out} holds no trained model yet: let it run on.")
    base, status = registry.get(plan.model), folder.status()
    mpp, _ = scale_of(division.train, plan.patch_px or base.window_px)
    trained = Trained(
        base=base.name,
        base_hash=base_hash(registry, base.name),
        method=plan.method,
        data=plan.data.resolve().stem,
        data_hash=division.content_hash(),
        seed=plan.seed,
        date=now(),
        run=str(status.get("run", "")),
        figures={
            "images": len(division.train),
            "images_held_out": len(division.val),
            "tumour": division.count(tumour=True),
            "normal": division.count(tumour=False),
            "groups": list(division.groups),
            "stage": status.get("stage"),
            "stages": status.get("stages", {}),
        },
    )
    card = replace(
        card_of(base, plan, mpp),
        name=name,
        title=f"{base.name}, trained on {trained.data} (patch labels)",
        aliases=(),
        note=f"Trained here from {base.name} by labels of patches, without outlines. "
        f"{status.get('message', '')} {_PATENT}",
        trained=trained,
    )
    return keep_trained(registry, card, folder.best)
