"""The frozen records that pass between folders: prompts, objects, their classes and provenance.

Every geometry is a shapely geometry in level-0 px of the full slide, corner based
(x right, y down; pixel ``i`` covers ``i`` to ``i + 1``), as in QuPath's GeoJSON.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shapely import MultiPolygon, Polygon
    from shapely.geometry.base import BaseGeometry

    from napari_histosam.geometry.window import Window

Role = Literal["positive", "negative", "box", "mask"]
Source = Literal["manual", "prompted", "automatic", "imported"]
ReviewState = Literal["accepted", "corrected"]
ObjectType = Literal["annotation", "detection", "cell", "tile", "tmaCore"]
Colour = tuple[int, int, int]
PatchKind = Literal["tumour", "normal"]
PATCH_KINDS: tuple[PatchKind, ...] = ("tumour", "normal")


def new_id() -> str:
    """Return a fresh object id (UUID 4 as text, the form QuPath keeps)."""
    return str(uuid.uuid4())


def now() -> str:
    """Return the present time as ISO 8601 text in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Prompt:
    """One hint of the user.

    Parameters
    ----------
    geometry : shapely geometry
        Point (click), LineString (scribble), rectangle Polygon (box) or (Multi)Polygon (mask),
        level-0 px.
    role : {"positive", "negative", "box", "mask"}
    object : str
        Groups the prompts of one object.
    class_name : str, optional
        The class that the object shall get.
    by : str, optional
        For a box that no user drew: the model whose mask of the user's prompts it is drawn round,
        for a model that takes boxes only.
    """

    geometry: BaseGeometry
    role: Role
    object: str = "1"
    class_name: str | None = None
    by: str | None = None


@dataclass(frozen=True)
class ObjectClass:
    """A class of objects: its name and its RGB colour (0 to 255)."""

    name: str
    colour: Colour


@dataclass(frozen=True)
class Provenance:
    """Where an object came from; kept with it so that corrections can teach.

    Parameters
    ----------
    source : {"manual", "prompted", "automatic", "imported"}
    author : str
        Who accepted or drew it; empty where unknown.
    model, weights_hash : str, optional
        The model's name and the SHA-256 of its weights.
    window : Window, optional
        What the model saw.
    prompts : tuple of Prompt
        The user's, in their order, and behind them the box that the model was given in their
        place, if it was (`Prompt.by`).
    score : float, optional
        The model's own estimate of its mask's IoU, 0 to 1.
    first_mask : Polygon or MultiPolygon, optional
        The model's first answer, level-0 px, before corrections.
    seconds : float, optional
        From the first prompt to the acceptance.
    """

    source: Source = "manual"
    author: str = ""
    model: str | None = None
    weights_hash: str | None = None
    window: Window | None = None
    prompts: tuple[Prompt, ...] = ()
    score: float | None = None
    first_mask: Polygon | MultiPolygon | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Review:
    """What a person said of an object after looking at it.

    Parameters
    ----------
    state : {"accepted", "corrected"}
        Right as it was, or right since its outline was corrected. What was rejected is no object
        any more; the store remembers it (`store.ObjectStore.rejected`).
    author : str
        Who said so; empty where unknown.
    time : str
        ISO 8601, UTC.
    """

    state: ReviewState
    author: str = ""
    time: str = field(default_factory=now)


@dataclass(frozen=True)
class SlideObject:
    """An accepted object on one slide.

    Parameters
    ----------
    geometry : shapely geometry
        Mostly Polygon or MultiPolygon (holes allowed); imports may bring points and lines.
        Level-0 px.
    class_name : str, optional
        None stands for "unclassified".
    id : str
        UUID text.
    object_type : {"annotation", "detection", "cell", "tile", "tmaCore"}
        QuPath's word for the kind.
    name : str, optional
    locked : bool
        Locked objects are shown but not edited.
    created, modified : str
        ISO 8601, UTC.
    provenance : Provenance
    measurements : mapping of str to float
    metadata : mapping of str to str
        Foreign key-value pairs, kept for the way back.
    extra : mapping of str to Any
        JSON members of an imported feature that this project does not use, kept for the way back
        (for example ``nucleusGeometry``, ``plane``, ``isEllipse``, a parent's id).
    review : Review, optional
        None until somebody has reviewed it.
    """

    geometry: BaseGeometry
    class_name: str | None = None
    id: str = field(default_factory=new_id)
    object_type: ObjectType = "annotation"
    name: str | None = None
    locked: bool = False
    created: str = field(default_factory=now)
    modified: str = field(default_factory=now)
    provenance: Provenance = field(default_factory=Provenance)
    measurements: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    review: Review | None = None


@dataclass(frozen=True)
class PatchLabel:
    """What a whole patch of a slide is said to show.

    Parameters
    ----------
    x, y : float
        Its upper left corner, level-0 px.
    width, height : float
        Level-0 px.
    label : {"tumour", "normal"}
        Whether there is tumour anywhere in it.
    author : str
        Empty where unknown.
    time : str
        When it was set (ISO 8601, UTC); empty for one that is not kept yet.
    """

    x: float
    y: float
    width: float
    height: float
    label: PatchKind
    author: str = ""
    time: str = ""

    @property
    def middle(self) -> tuple[float, float]:
        """The level-0 point in its middle."""
        return self.x + self.width / 2, self.y + self.height / 2
