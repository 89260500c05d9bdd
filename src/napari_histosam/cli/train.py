"""``histosam train``: fine-tune a model on labelled images, and say whether it got better."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_histosam.cli import probe, train_patches
from napari_histosam.cli.changes import picture_changes
from napari_histosam.cli.evaluate import measure
from napari_histosam.cli.models import check_licence, exported
from napari_histosam.errors import HistosamError, InputError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from napari_histosam.models import ModelCard, ModelRegistry
    from napari_histosam.train.finetune.plan import Plan
    from napari_histosam.train.finetune.splits import Division

_NUMBERS = ("epochs", "seed", "objects", "patience", "devices", "nodes")
_BATCH = 4


def add_to(commands: Any) -> ArgumentParser:
    """Declare the command."""
    made: ArgumentParser = commands.add_parser("train", help="fine-tune a model on labelled images")
    made.add_argument(
        "data",
        type=Path,
        nargs="?",
        metavar="DATASET",
        help="folder with index.json, or folders of that",
    )
    made.add_argument("--model", required=True, metavar="NAME", help="the base")
    made.add_argument("--method", default="decoder", metavar="decoder|lora|mona|full")
    made.add_argument("--out", type=Path, metavar="DIR", help="folder of the run; goes on there")
    made.add_argument(
        "--probe", action="store_true", help="only measure what it would cost here; no --out needed"
    )
    made.add_argument(
        "--finish",
        action="store_true",
        help="end the run in --out, running or paused, with the best epoch so far",
    )
    made.add_argument("--name", help="of the model that is made")
    made.add_argument(
        "--export",
        type=Path,
        metavar="OUT",
        help="also write one plain file, of a model of several files a folder of its own parts",
    )
    made.add_argument("--set", action="append", dest="sets", metavar="NAME", help="only this set")
    made.add_argument("--limit", type=int, metavar="N", help="use so many training images")
    made.add_argument("--epochs", type=int, default=20)
    made.add_argument("--patience", type=int, default=8, help="epochs without a gain, then stop")
    made.add_argument(
        "--batch", type=int, help="windows per step, all devices together (4), or patches (16)"
    )
    made.add_argument("--objects", type=int, default=8, help="objects asked for in a window")
    made.add_argument("--rate", type=float, help="peak learning rate; else the recipe's")
    made.add_argument(
        "--corrections",
        type=float,
        default=4.0,
        metavar="K",
        help="ask more often for what was corrected, by 1 + K (1 - IoU of the first mask)",
    )
    made.add_argument(
        "--boxes-only",
        action="store_true",
        help="of models that find objects: learn from the boxes that are listed, read no mask",
    )
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--devices", type=int, default=1)
    made.add_argument("--nodes", type=int, default=1)
    made.add_argument("--accelerator", default="auto", metavar="auto|cpu|cuda|mps")
    made.add_argument("--memory-batch", type=int, metavar="N", help="windows in memory at once")
    made.add_argument("--threads", type=int, metavar="N", help="CPU threads of each process")
    made.add_argument(
        "--max-objects", type=int, metavar="N", help="per image, for before and after"
    )
    train_patches.add_to(made)
    return made


def run(args: Namespace) -> tuple[dict[str, Any], str]:
    """Train, keep the model, compare it with its base."""
    if not args.probe:
        for given, name in ((args.data, "DATASET"), (args.out, "--out DIR")):
            if given is None:
                raise InputError(f"{name} is missing; see histosam train --help.")
    try:
        return _run(args)
    except HistosamError:
        raise
    except OSError as error:
        raise InputError(
            f"{args.out} cannot be written or read ({error.strerror or error}): make room or "
            "choose another --out, then run the same command again."
        ) from error


def _run(args: Namespace) -> tuple[dict[str, Any], str]:
    from napari_histosam.models import ModelRegistry
    from napari_histosam.models.exporting import check_export
    from napari_histosam.models.trained import base_hash, check_trainable, learns_patches
    from napari_histosam.models.window_trainable import learns_windows
    from napari_histosam.train.finetune.folder import RunFolder
    from napari_histosam.train.finetune.launch import run as train
    from napari_histosam.train.finetune.plan import Plan
    from napari_histosam.train.finetune.result import keep, name_for
    from napari_histosam.train.finetune.splits import divide

    registry = ModelRegistry()
    card = registry.get(args.model)
    if learns_patches(card):
        check_licence(registry, card.name)
        return train_patches.run(registry, card, args, _ask_to_finish)
    plan = Plan(
        data=args.data or Path(),
        model=card.name,
        method=args.method,
        out=args.out or Path(),
        sets=tuple(args.sets or ()),
        boxes_only=args.boxes_only,
        limit=args.limit,
        batch=_BATCH if args.batch is None else args.batch,
        rate=args.rate,
        corrections=args.corrections,
        accelerator=args.accelerator,
        memory_batch=args.memory_batch,
        threads=args.threads,
        **{name: getattr(args, name) for name in _NUMBERS},
    )
    plan.check()
    check_trainable(card, plan.method)
    if args.export is not None:
        check_export(card, args.export)  # now, and not after hours
    check_licence(registry, card.name)
    if learns_windows(card):
        from napari_histosam.cli.train_windows import run as run_windows

        return run_windows(registry, plan, args, _ask_to_finish)
    if plan.boxes_only:
        raise InputError(
            f"{card.name} learns from prompts for outlines, not from boxes: leave --boxes-only "
            "away, or train des-sam."
        )
    if args.probe:
        return probe.run(registry, plan, args.data is not None)
    division = divide(plan)
    name = name_for(registry, plan, args.name)
    if args.finish:
        told = _ask_to_finish(plan)
        if told is not None:
            return told
    status = train(plan, division, base_hash(registry, card.name), list(division.notes))
    if int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) != 0:
        return {"state": status.get("state")}, "The first process tells the result."
    if status["state"] != "done":
        return status, f"{status['message']} Run the same command to go on."
    if status.get("early") and not status.get("best_epoch"):
        return status, "\n".join([*status.get("notes", ()), status["message"]])
    try:
        made = keep(registry, plan, division, name)
        made, found, said = _compare(registry, made, division, plan, args)
    except HistosamError as error:
        with contextlib.suppress(HistosamError, OSError):
            RunFolder(plan.out).note(f"It was not compared with {plan.model}: {error}")
        raise
    result = {
        **status,
        "name": made.name,
        "base": card.name,
        "method": plan.method,
        "bytes": sum(entry.bytes or 0 for entry in made.files),
        "out": str(plan.out),
        **found,
    }
    lines = [*status.get("notes", ()), status["message"], said]
    lines.append(f"The model is called {made.name}; the default model stays as it is.")
    if args.export is not None:
        files = registry.export(made.name, args.export)
        result["export"] = str(args.export)
        lines.append(exported(made.name, args.export, files))
    return result, "\n".join(lines)


def _ask_to_finish(plan: Plan) -> tuple[dict[str, Any], str] | None:
    """Have the run of a plan end; return what to say where another process does the rest."""
    from napari_histosam.train.finetune.folder import RunFolder

    folder = RunFolder(plan.out)
    status = folder.status()
    if not status:
        raise InputError(f"{plan.out} holds no run to finish: start one without --finish.")
    if status.get("state") == "done":
        return None
    folder.ask_to_finish()
    if not folder.at_work():
        return None
    return status, (
        f"The run in {plan.out} ends at its next step, keeps its best epoch and compares it with "
        f"{plan.model}; the process that trains tells the result."
    )


def _compare(
    registry: ModelRegistry, made: ModelCard, division: Division, plan: Plan, args: Namespace
) -> tuple[ModelCard, dict[str, Any], str]:
    """Measure base and trained model on the images held out, through the session's windows."""
    from napari_histosam.models.files import write_bytes_atomic
    from napari_histosam.train.evaluation.compare import compare, sentence
    from napari_histosam.train.evaluation.figures import row
    from napari_histosam.train.evaluation.report import markdown
    from napari_histosam.train.finetune.result import judge

    rows, kept = [], []
    for one in (plan.model, made.name):
        model = registry.load(one, device=plan.accelerator)
        outcomes = measure(division.judged, model, 0, args.max_objects)
        if not outcomes:
            raise InputError("The held-out images show no object to measure: label some.")
        kept.append(outcomes)
        for set_name in dict.fromkeys(o.entry.set_name for o in outcomes):
            part = [o for o in outcomes if o.entry.set_name == set_name]
            rows.append(row(set_name, one, part))
    found = compare(*kept)
    said = sentence(found)
    made = judge(registry, made, found, said)
    report = {"verdict": found["verdict"], "comparison": found, "results": rows}
    write_bytes_atomic(plan.out / "report.json", json.dumps(report, indent=1).encode())
    picture_changes(
        plan.out / "gallery",
        registry,
        (plan.model, made.name),
        (kept[0], kept[1]),
        plan.accelerator,
    )
    write_bytes_atomic(plan.out / "report.md", markdown(rows, said).encode())
    return made, report, said
