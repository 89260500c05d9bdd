"""What becomes of previews when they are kept: objects with their provenance, in the store."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_histosam.geometry.polygons import clean
from napari_histosam.records import Provenance, Review, SlideObject, now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_histosam.session.previews import ObjectPreview
    from napari_histosam.store import ObjectStore


def to_object(
    shown: ObjectPreview,
    *,
    class_name: str | None = None,
    author: str = "",
    seconds: float | None = None,
) -> SlideObject | None:
    """Return the object that a preview stands for; None if its mask is empty.

    Parameters
    ----------
    shown : ObjectPreview
    class_name : str, optional
        For prompts that name no class themselves.
    author : str
    seconds : float, optional
        From the first prompt to the acceptance.
    """
    shape = clean(shown.geometry)
    if shape is None:
        return None
    named = next((p.class_name for p in shown.prompts if p.class_name), None)
    made = now()
    return SlideObject(
        geometry=shape,
        class_name=named or class_name,
        created=made,
        modified=made,
        provenance=Provenance(
            source="prompted",
            author=author,
            model=shown.model or None,
            weights_hash=shown.weights_hash or None,
            window=shown.window,
            prompts=shown.prompts if shown.box is None else (*shown.prompts, shown.box),
            score=shown.score,
            first_mask=shown.first,
            seconds=seconds,
        ),
    )


def to_objects(
    shown: Mapping[str, ObjectPreview],
    *,
    class_name: str | None = None,
    author: str = "",
    seconds: float | None = None,
) -> dict[str, SlideObject]:
    """Return what `to_object` makes of each preview, without the empty ones."""
    made = {
        name: to_object(one, class_name=class_name, author=author, seconds=seconds)
        for name, one in shown.items()
    }
    return {name: one for name, one in made.items() if one is not None}


def keep(
    store: ObjectStore,
    made: Mapping[str, SlideObject],
    refines: tuple[str, str] | None,
    class_name: str | None = None,
) -> list[str]:
    """Put accepted objects into the store as one undo step.

    Parameters
    ----------
    store : ObjectStore
    made : mapping of str to SlideObject
        By the name of the prompted object.
    refines : (str, str), optional
        The prompted object that takes the place of an accepted one, and that one's id. What the
        user said of that one stays: id, class (unless ``class_name`` gives another), name, kind.
        Its measurements go, for they were taken of the old outline. It counts as reviewed and
        corrected, and where the same model drew the old outline, its first mask stays.
    class_name : str, optional

    Returns
    -------
    list of str
        Ids, in the order of ``made``.
    """
    objects = list(made.values())
    label = "Accept" if len(objects) == 1 else f"Accept {len(objects)}"
    name, target = refines or ("", "")
    if name not in made or target not in store:
        return store.add(objects, label=label)
    old = store.get(target)
    again = replace(
        made[name],
        id=old.id,
        class_name=class_name or old.class_name,
        created=old.created,
        object_type=old.object_type,
        name=old.name,
        metadata=old.metadata,
        extra=old.extra,
        provenance=_continued(made[name].provenance, old),
        review=Review("corrected", made[name].provenance.author),
    )
    objects = [again if key == name else one for key, one in made.items()]
    if len(objects) == 1:
        store.update(objects, label="Refine")
        return [target]
    return store.replace([target], objects, label=label)


def with_first(old: SlideObject) -> Provenance:
    """Return an object's provenance for the time after a correction.

    An automatic object without a first mask is the model's first answer itself, as long as nobody
    has corrected it.
    """
    made, done = old.provenance, old.review
    corrected = done is not None and done.state == "corrected"
    if made.source != "automatic" or made.first_mask is not None or corrected:
        return made
    return replace(made, first_mask=clean(old.geometry))


def _continued(made: Provenance, old: SlideObject) -> Provenance:
    """Return a refined object's provenance: its first mask is what the model drew at first."""
    before = with_first(old)
    if before.weights_hash is None or before.weights_hash != made.weights_hash:
        return made
    return made if before.first_mask is None else replace(made, first_mask=before.first_mask)
