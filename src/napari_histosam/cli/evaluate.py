"""``histosam evaluate``: how good models are on labelled images, by prompts and by themselves."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from napari_histosam.cli.models import check_licence
from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_histosam.models import ModelRegistry
    from napari_histosam.models.automatic import AutomaticModel, RegionModel
    from napari_histosam.models.protocols import PromptModel
    from napari_histosam.train.evaluation.protocol import Outcome
    from napari_histosam.train.labelled import Entry


def add_to(commands: Any) -> ArgumentParser:
    """Declare the command."""
    made: ArgumentParser = commands.add_parser("evaluate", help="measure models on labelled images")
    made.add_argument(
        "data", type=Path, metavar="DATA", help="folder with index.json, or with folders of that"
    )
    made.add_argument(
        "--model", action="append", nargs="+", metavar="NAME", help="one or several; may repeat"
    )
    made.add_argument("--weights", type=Path, nargs="+", metavar="FILE", help="for a single model")
    made.add_argument(
        "--split",
        action="append",
        metavar="NAME",
        help="split of splits.json; else all that are not for training",
    )
    made.add_argument("--set", action="append", dest="sets", metavar="NAME", help="only this set")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--max-objects", type=int, metavar="N", help="per image, drawn by the seed")
    made.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N|mps")
    made.add_argument("--threads", type=int, metavar="N", help="CPU threads of the model")
    made.add_argument("--out", type=Path, metavar="DIR", help="JSON, Markdown and pictures go here")
    return made


def run(args: Namespace) -> tuple[dict[str, Any], str]:
    """Evaluate each model on each set: by prompts, by itself, or both, as its card says."""
    from napari_histosam.cli.finding import find_all, tell_areas
    from napari_histosam.models import ModelRegistry
    from napari_histosam.session import DEFAULT_MODEL
    from napari_histosam.train.evaluation.figures import automatic, blank, row
    from napari_histosam.train.evaluation.report import markdown
    from napari_histosam.train.labelled import find_sets

    registry = ModelRegistry()
    names = [name for group in args.model or [[DEFAULT_MODEL]] for name in group]
    if args.weights and len(names) != 1:
        raise InputError("--weights goes with one --model; evaluate the others without it.")
    if args.max_objects is not None and args.max_objects < 1:
        raise InputError("--max-objects must be at least 1.")
    if args.seed < 0:
        raise InputError("--seed must not be negative.")
    folders = {folder.name: folder for folder in find_sets(args.data)}
    for name in args.sets or ():
        if name not in folders:
            raise InputError(f"{args.data} has no set {name}, but {', '.join(folders)}.")
    chosen = {name: folders[name] for name in args.sets or folders}
    asked = {name: _sets(chosen, registry.get(name).finds == "regions", args) for name in names}
    if args.out is not None:
        _make(args.out)
    rows = []
    for name in names:
        if not registry.get(name).prompts and registry.get(name).finds is None:
            raise InputError(f"{name} takes no prompts and finds nothing: choose another model.")
        model = _load(registry, name, args)
        for set_name, found in asked[name].items():
            one = blank(set_name, model.card.name)
            if model.card.prompts:
                kept = measure(found, model, args.seed, args.max_objects)
                if not kept:
                    raise InputError(f"The masks of the set {set_name} show no object.")
                one |= row(set_name, model.card.name, kept)
                if args.out is not None:
                    _draw(args.out / f"{set_name}-{model.card.name}.png", kept, model, args)
            if model.card.finds == "objects":
                one |= automatic(*find_all(found, cast("AutomaticModel", model)))
            if model.card.finds == "regions":
                one |= tell_areas(found, cast("RegionModel", model))
            rows.append(one)
    device = model.device
    about = (
        f"Simulated prompts with seed {args.seed}, each image looked at as a whole; IoU is the "
        f"mean per object, times are medians on {device}."
    )
    if all("area_dice" in one for one in rows):
        about = (
            "Each image is looked at as a whole. Dice and IoU of areas are means over images and "
            f"classes, by class over all px; times are medians on {device}."
        )
    result = {"results": rows, "seed": args.seed, "device": device, "threads": _threads()}
    text = markdown(rows, about)
    if args.out is not None:
        _write(args.out / "evaluation.json", json.dumps(result, indent=1))
        _write(args.out / "evaluation.md", text)
    return result, text


def _sets(folders: Mapping[str, Path], areas: bool, args: Namespace) -> dict[str, list[Entry]]:
    """Return the labelled images of each set, those without any left out."""
    from napari_histosam.train.labelled import entries

    sets = {name: entries(path, args.split, areas=areas) for name, path in folders.items()}
    sets = {name: found for name, found in sets.items() if found}
    if not sets:
        raise InputError(
            f"{args.data} holds no image with {'a' if areas else 'an instance'} mask to evaluate "
            "on: see --set and --split."
        )
    return sets


def _load(registry: ModelRegistry, name: str, args: Namespace) -> PromptModel:
    if not args.weights:
        check_licence(registry, name)
    model = registry.load(name, device=args.device, files=args.weights)
    if args.threads is not None:
        from napari_histosam.models.devices import use_threads

        use_threads(args.threads)
    return model


def _threads() -> int:
    from napari_histosam.models.devices import threads

    return threads()


def measure(
    found: Sequence[Entry], model: PromptModel, seed: int, most: int | None = None
) -> list[Outcome]:
    """Ask a model for the objects of images; ``most`` limits the objects of each."""
    from napari_histosam.models import EmbeddingCache
    from napari_histosam.session.trial import Trial
    from napari_histosam.slide import open_array
    from napari_histosam.train.evaluation.protocol import outcomes

    kept: list[Outcome] = []
    for number, entry in enumerate(found, 1):
        image, labels = entry.read()
        with open_array([image], _mpp(entry), entry.name) as slide:
            trial = Trial(slide, model, EmbeddingCache(None))
            kept += outcomes(entry, labels, trial, seed=seed, most=most)
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{model.card.name}: image {number} of {len(found)} ")
            sys.stderr.write("\n" * (number == len(found)))
    return kept


def _draw(path: Path, kept: list[Outcome], model: PromptModel, args: Namespace) -> None:
    from napari_histosam.models import EmbeddingCache
    from napari_histosam.session.trial import Trial
    from napari_histosam.slide import open_array
    from napari_histosam.train.evaluation.protocol import box_again
    from napari_histosam.train.evaluation.report import write_picture

    def look(
        one: Outcome,
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
        image, labels = one.entry.read()
        with open_array([image], _mpp(one.entry), one.entry.name) as slide:
            reply = Trial(slide, model, EmbeddingCache(None)).ask([], box_again(one))
        return image, labels == one.number, reply.masks[0]

    write_picture(path, kept, look)


def _mpp(entry: Entry) -> tuple[float, float] | None:
    return None if entry.mpp is None else (entry.mpp, entry.mpp)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {folder} cannot be made ({error.strerror}); choose another with --out."
        ) from error


def _write(path: Path, text: str) -> None:
    from napari_histosam.exchange.files import new_file

    with new_file(path) as temporary:
        temporary.write_text(text, "utf-8")
