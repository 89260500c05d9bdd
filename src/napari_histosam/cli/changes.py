"""Pictures of what a training has changed most, for whoever decides on the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_histosam.models import ModelRegistry
    from napari_histosam.train.evaluation.protocol import Outcome


def picture_changes(
    folder: Path,
    registry: ModelRegistry,
    names: tuple[str, str],
    kept: tuple[Sequence[Outcome], Sequence[Outcome]],
    device: str,
) -> None:
    """Ask both models once more for the objects that changed most, and write a gallery.

    Parameters
    ----------
    folder : Path
    registry : ModelRegistry
    names : (str, str)
        Base and trained model.
    kept : (sequence of Outcome, sequence of Outcome)
        What came of the same objects with each.
    device : str
    """
    from napari_histosam.train.evaluation.gallery import most_changed, write_gallery

    chosen = most_changed(*kept)
    outcomes = {(o.entry.set_name, o.entry.name, o.number): o for o in kept[1]}
    rows = [row for part in chosen.values() for row in part]
    masks = [_masks(registry, name, rows, outcomes, device) for name in names]
    seen: dict[tuple[str, str, int, str], Any] = {}
    for row in rows:
        key = (row["set"], row["image"], row["label"], row["prompt"])
        image, labels = outcomes[key[:3]].entry.read()
        seen[key] = (image, labels == row["label"], masks[0][key], masks[1][key])
    write_gallery(folder, chosen, seen)


def _masks(
    registry: ModelRegistry,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    outcomes: Mapping[tuple[str, str, int], Outcome],
    device: str,
) -> dict[tuple[str, str, int, str], Any]:
    """Return a model's mask of each row, by set, image, label and prompt."""
    from napari_histosam.models import EmbeddingCache
    from napari_histosam.session.trial import Trial
    from napari_histosam.slide import open_array
    from napari_histosam.train.evaluation.protocol import box_again
    from napari_histosam.train.simulate import Click, deepest_point

    found: dict[tuple[str, str, int, str], Any] = {}
    if not rows:
        return found
    model = registry.load(name, device=device)
    for row in rows:
        key = (row["set"], row["image"], row["label"])
        outcome = outcomes[key]
        image, labels = outcome.entry.read()
        mpp = None if outcome.entry.mpp is None else (outcome.entry.mpp, outcome.entry.mpp)
        with open_array([image], mpp, outcome.entry.name) as slide:
            trial = Trial(slide, model, EmbeddingCache(None))
            if row["prompt"] == "Box":
                reply = trial.ask([], box_again(outcome))
            else:
                reply = trial.ask([Click(*deepest_point(labels == row["label"]), True)], None)
        found[*key, row["prompt"]] = reply.masks[0]
    return found
