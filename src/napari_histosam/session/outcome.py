"""What becomes of a preview when it is kept: an object with its provenance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_histosam.geometry.polygons import clean
from napari_histosam.records import Provenance, SlideObject, now

if TYPE_CHECKING:
    from napari_histosam.models.protocols import PromptModel
    from napari_histosam.session.answer import ObjectPreview


def to_object(
    shown: ObjectPreview,
    model: PromptModel | None,
    *,
    class_name: str | None = None,
    author: str = "",
    seconds: float | None = None,
) -> SlideObject | None:
    """Return the object that a preview stands for; None if its mask is empty.

    Parameters
    ----------
    shown : ObjectPreview
    model : PromptModel, optional
        The one that answered.
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
            model=model.card.name if model else None,
            weights_hash=model.weights_hash if model else None,
            window=shown.window,
            prompts=shown.prompts,
            score=shown.score,
            first_mask=shown.first,
            seconds=seconds,
        ),
    )
