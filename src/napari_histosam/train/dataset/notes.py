"""What the user should know of a build: what was left out, moved, or not taken over."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError
from napari_histosam.train.dataset.kinds import SENTENCES
from napari_histosam.train.dataset.patients import patient_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_histosam.train.dataset.cut import Rows
    from napari_histosam.train.dataset.kinds import Marked
    from napari_histosam.train.dataset.request import Request
    from napari_histosam.train.dataset.sources import SlideSource
    from napari_histosam.train.dataset.splits import Placed


def refuse_empty(sources: Sequence[SlideSource], marked: Sequence[Marked]) -> None:
    """Refuse sources without any object to learn from.

    Raises
    ------
    InputError
        It says what there was instead.
    """
    if not sources:
        raise InputError(
            "There is nothing to build from; name stores, slides, or --annotations with --slide."
        )
    if any(found.objects for found in marked):
        return
    left = sum((found.left_out for found in marked), Counter[str]())
    why = "; ".join(f"{count} {SENTENCES[key]}" for key, count in left.items())
    names = ", ".join(one.name for one in sources[:3])
    raise InputError(
        f"There is no object to learn from on {names}"
        + (" and others" if len(sources) > 3 else "")
        + (f" (only {why})" if why else "")
        + "; accept some first."
    )


def warnings(
    request: Request,
    sources: Sequence[SlideSource],
    marked: Sequence[Marked],
    frozen: Mapping[str, Mapping[str, Any]],
    placed: Mapping[str, Placed],
    rows: Rows,
) -> list[str]:
    """Return what the user should know of a build, one sentence each.

    Parameters
    ----------
    request : Request
    sources, marked : sequences of SlideSource and Marked
        Slide by slide.
    frozen : mapping of str to mapping
        Identity → what the manifest says of a slide of the frozen test set.
    placed : mapping of str to Placed
    rows : Rows
        What was built.
    """
    left = sum((found.left_out for found in marked), Counter[str]())
    shown = {line["object"] for lines in rows.lines.values() for line in lines if line["home"]}
    left["covered"] = sum(
        item.id not in shown
        for one, found in zip(sources, marked, strict=True)
        if one.identity not in frozen
        for item in found.objects
    )
    said = [f"Left out: {n} {SENTENCES[key]}." for key, n in left.items() if n]
    said += [note for one in sources for note in one.notes]
    present = {one.identity: found for one, found in zip(sources, marked, strict=True)}
    for identity, slide in frozen.items():
        if identity in present:
            said += _changes(slide, present[identity].digests)
        else:
            said.append(f"{slide['name']} of the test set was not given; its windows stay.")
    for one in sources:
        if request.patients and patient_of(request.patients, one.name, one.identity) is None:
            said.append(f"No patient is named for {one.name}; it was taken for one of its own.")
        why, split = placed[one.identity].why, placed[one.identity].split
        if why == "few":
            said.append(
                f"{one.name} went to {split}, since there are too few slides to leave it to chance."
            )
        elif why == "frozen":
            said.append(
                f"{one.name} went to val and not to the test set, which is frozen; --refreeze "
                "takes it in."
            )
        elif why == "patient" and split != "train":
            said.append(f"{one.name} went to {split}, since its patient is held out.")
    return said


def _changes(slide: Mapping[str, Any], now: Mapping[str, str]) -> list[str]:
    """Say what was corrected on a slide of the test set since it was frozen."""
    then: Mapping[str, str] = slide.get("digests", {})
    changed = sum(now[key] != value for key, value in then.items() if key in now)
    new, gone = len(now.keys() - then.keys()), len(then.keys() - now.keys())
    if not changed + new + gone:
        return []
    return [
        f"{slide['name']} of the test set has {changed} changed, {new} new and {gone} deleted "
        "objects since it was frozen; the test set stays as it was, --refreeze takes them in."
    ]
