"""Makes a model of a finished run: its name, its card, its place among the user's models."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError
from napari_histosam.models.cards import Trained
from napari_histosam.models.catalog import write_card
from napari_histosam.models.trained import base_hash, keep_trained
from napari_histosam.records import now
from napari_histosam.train.finetune.folder import RunFolder
from napari_histosam.train.finetune.splits import data_hash

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.registry import ModelRegistry
    from napari_histosam.train.finetune.plan import Plan
    from napari_histosam.train.finetune.splits import Division


def name_for(registry: ModelRegistry, plan: Plan, wish: str | None) -> str:
    """Return the name of the model that a run will make.

    Parameters
    ----------
    registry : ModelRegistry
    plan : Plan
    wish : str, optional
        The user's; else made of base, data and method.

    Raises
    ------
    InputError
        If the wished name belongs to another model, or has no letters.
    """
    cards = registry.cards()
    run = RunFolder(plan.out).status().get("run")
    made = wish if wish is not None else f"{plan.model}-{plan.data.resolve().name}-{plan.method}"
    name = re.sub(r"[^a-z0-9.]+", "-", made.lower()).strip("-.")[:60]
    if not name:
        raise InputError("A model's name needs letters or digits: give another --name.")

    def free(one: str) -> bool:
        card = cards.get(one)
        taken = card is not None or any(one in other.aliases for other in cards.values())
        own = card is not None and card.trained is not None and card.trained.run == run
        return not taken or (own and run is not None)

    if wish is not None and not free(name):
        raise InputError(f"The name {name} is taken by another model: give another --name.")
    number = 2
    base = name
    while not free(name):
        name, number = f"{base}-{number}", number + 1
    return name


def keep(
    registry: ModelRegistry,
    plan: Plan,
    division: Division,
    name: str,
    classes: tuple[str, ...] | None = None,
) -> ModelCard:
    """Put the best epoch of a finished run among the user's models; return its card.

    ``classes`` are those that it finds, where it was taught others than its base has.

    Raises
    ------
    InputError, HistosamError
        If the run has not come far enough, or the folder cannot be written.
    """
    folder = RunFolder(plan.out)
    if not folder.best.is_file():
        raise InputError(f"{plan.out} holds no trained model yet: let it run on.")
    base = registry.get(plan.model)
    status = folder.status()
    trained = Trained(
        base=base.name,
        base_hash=base_hash(registry, base.name),
        method=plan.method,
        data=plan.data.resolve().name,
        data_hash=data_hash(plan),
        seed=plan.seed,
        date=now(),
        run=str(status.get("run", "")),
        figures={
            "images": len(division.train),
            "images_held_out": len(division.judged),
            "epochs": status.get("epoch"),
            "best_epoch": status.get("best_epoch"),
        },
    )
    card = replace(
        base,
        name=name,
        title=f"{base.name}, trained on {trained.data} ({plan.method})",
        aliases=(),
        note=f"Trained here from {base.name}; the licence is that of the base's weights.",
        trained=trained,
        classes=base.classes if classes is None else classes,
    )
    return keep_trained(registry, card, folder.best)


def judge(
    registry: ModelRegistry, card: ModelCard, comparison: Mapping[str, Any], said: str
) -> ModelCard:
    """Write the comparison with the base onto a model's card; return the card."""
    assert card.trained is not None
    figures = {
        **card.trained.figures,
        **{k: v for k, v in comparison.items() if k.startswith("n_")},
        **comparison["figures"],
    }
    trained = replace(card.trained, verdict=comparison["verdict"], figures=figures)
    whole = replace(card, trained=trained, note=f"{card.note} {said}")
    write_card(whole, registry.folder / f"{card.name}.json")
    return whole
