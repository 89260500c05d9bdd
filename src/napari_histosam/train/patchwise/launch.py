"""Runs a training from patch labels, stage by stage; the same plan and folder go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_histosam.models.graphics import keep_compiler_out
from napari_histosam.train.finetune import launch
from napari_histosam.train.finetune.splits import Division

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from napari_histosam.train.patchwise.division import PatchDivision
    from napari_histosam.train.patchwise.plan import PatchPlan


def run(plan: PatchPlan, division: PatchDivision, base_hash: str) -> dict[str, Any]:
    """Run or go on with a plan; return the folder's status.

    Parameters
    ----------
    plan : PatchPlan
        Checked.
    division : PatchDivision
    base_hash : str
        ``"sha256:…"`` of the base's files.

    Raises
    ------
    InputError, Cancelled
        As `napari_histosam.train.finetune.launch.run`.
    """
    keep_compiler_out()
    from napari_histosam.models.registry import ModelRegistry
    from napari_histosam.train.patchwise.base import scale_of
    from napari_histosam.train.patchwise.stages import Stages

    side = plan.patch_px or ModelRegistry().get(plan.model).window_px
    said = scale_of(division.train, side)[1]
    notes = [*division.notes, *([said] if said else [])]

    def work(fabric: Fabric, _: object, __: object, known: str) -> None:
        Stages(fabric, plan, division, known).run()

    return launch.run(plan, Division((), (), (), tuple(notes)), base_hash, notes, work)
