"""``histosam train`` for models that learn from labels of whole patches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_histosam.cli.models import exported
from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from napari_histosam.models import ModelCard, ModelRegistry
    from napari_histosam.train.finetune.plan import Plan
    from napari_histosam.train.patchwise.plan import PatchPlan

# Patches of a step; windows are a quarter of that.
_BATCH = 16
_OWN = (
    "profile",
    "percentile",
    "agreement",
    "rounds",
    "decoder_epochs",
    "decoder_rate",
    "views",
    "patch_px",
)


def add_to(made: ArgumentParser) -> None:
    """Declare the options."""
    own = made.add_argument_group(
        "models that learn from patch labels (ep-sam)",
        "DATASET may be a CSV: image,label[,group,mpp,split]. --epochs, --rate and --batch are the "
        "classifier's.",
    )
    own.add_argument("--until", choices=("classifier", "all"), default="all")
    own.add_argument(
        "--profile",
        choices=("camelyon16", "camelyon17"),
        help="how a heat map becomes a mask: cut at the patch's size (16), or in cells (17); else "
        "the card's",
    )
    own.add_argument(
        "--percentile",
        type=float,
        metavar="P",
        help="of the warm part of a heat map, what is above belongs to its mask; else the card's",
    )
    own.add_argument(
        "--agreement",
        type=float,
        default=0.9,
        metavar="A",
        help="share of a pseudo-mask that must be warm for it to be learned from",
    )
    own.add_argument("--rounds", type=int, default=3, metavar="N", help="of the decoder")
    own.add_argument("--decoder-epochs", type=int, default=20, metavar="N", help="in each round")
    own.add_argument("--decoder-rate", type=float, help="peak learning rate; else the recipe's")
    own.add_argument(
        "--views",
        type=int,
        default=4,
        metavar="1-4",
        help="in how many ways a patch is shown to the decoder, each of which is encoded once",
    )
    own.add_argument("--patch-px", type=int, metavar="N", help="side of a patch; else the card's")


def plan_of(args: Namespace, card: ModelCard) -> PatchPlan:
    """Return what the options ask for, checked.

    Raises
    ------
    InputError
        If a number makes no sense, or an option has no meaning here.
    """
    from napari_histosam.train.patchwise.plan import METHOD, PatchPlan

    if args.boxes_only:
        raise InputError(f"{card.name} learns from labels of patches: leave --boxes-only away.")
    if args.probe:
        raise InputError(
            f"What training {card.name} costs cannot be measured ahead: leave --probe away, and "
            "follow run.json, which tells the steps."
        )
    plan = PatchPlan(
        data=args.data,
        model=card.name,
        method=METHOD,
        out=args.out,
        epochs=args.epochs,
        seed=args.seed,
        batch=_BATCH if args.batch is None else args.batch,
        rate=args.rate,
        patience=args.patience,
        sets=tuple(args.sets or ()),
        limit=args.limit,
        devices=args.devices,
        nodes=args.nodes,
        accelerator=args.accelerator,
        threads=args.threads,
        until=args.until,
        **{name: getattr(args, name) for name in _OWN},
    )
    plan.check()
    return plan


def run(
    registry: ModelRegistry,
    card: ModelCard,
    args: Namespace,
    ask_to_finish: Callable[[Plan], tuple[dict[str, Any], str] | None],
) -> tuple[dict[str, Any], str]:
    """Train, and keep the model.

    Parameters
    ----------
    registry : ModelRegistry
    card : ModelCard
        Of the base.
    args : Namespace
    ask_to_finish : callable
        Has a run end; returns what to say where another process does the rest.
    """
    from napari_histosam.models.exporting import check_export
    from napari_histosam.models.files import write_bytes_atomic
    from napari_histosam.models.trained import base_hash
    from napari_histosam.train.finetune.result import name_for
    from napari_histosam.train.patchwise.division import divide_patches
    from napari_histosam.train.patchwise.launch import run as train
    from napari_histosam.train.patchwise.result import keep

    plan = plan_of(args, card)
    if args.export is not None:
        check_export(card, args.export)  # now, and not after hours
    known = base_hash(registry, card.name)  # the base has to be here
    division = divide_patches(plan)
    name = name_for(registry, plan, args.name)
    if args.finish:
        told = ask_to_finish(plan)
        if told is not None:
            return told
    status = train(plan, division, known)
    if status["state"] != "done":
        return status, f"{status['message']} Run the same command to go on."
    notes = list(status.get("notes", ()))
    if not status.get("best_epoch"):
        return status, "\n".join([*notes, status["message"]])
    made = keep(registry, plan, division, name)
    assert made.trained is not None
    report = {"figures": made.trained.figures, "recipe": dict(made.recipe), "notes": notes}
    write_bytes_atomic(Path(plan.out) / "report.json", json.dumps(report, indent=1).encode())
    result = {
        **status,
        "name": made.name,
        "base": card.name,
        "method": plan.method,
        "bytes": sum(entry.bytes or 0 for entry in made.files),
        "out": str(plan.out),
    }
    lines = [*notes, status["message"]]
    lines.append(f"The model is called {made.name}; the default model stays as it is.")
    if plan.until == "classifier":
        lines.append("The same command without --until goes on with heat maps and the decoder.")
    if args.export is not None:
        files = registry.export(made.name, args.export)
        result["export"] = str(args.export)
        lines.append(exported(made.name, args.export, files))
    return result, "\n".join(lines)
