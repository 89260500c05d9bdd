"""Model cards: what a model is, takes and needs, and under which licence its weights stand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

PromptKind = Literal["point", "negative", "box", "scribble", "mask"]
Pixels = Literal["imagenet", "minmax"]
Finds = Literal["objects", "regions"]


@dataclass(frozen=True)
class WeightFile:
    """One file of weights.

    Parameters
    ----------
    name : str
        File name in the weights folder.
    url : str, optional
        Where it can be fetched; None for files that a user must bring by hand.
    bytes : int, optional
        Expected size.
    hash : str, optional
        ``"sha256:…"`` or ``"xxh128:…"``, where known.
    part : str
        Which part of the model it holds, where there are several: see
        `napari_histosam.models.parts`.
    """

    name: str
    url: str | None = None
    bytes: int | None = None
    hash: str | None = None
    part: str = ""


@dataclass(frozen=True)
class Trained:
    """How a model was made from another one.

    Parameters
    ----------
    base : str
        Name of the model that it was trained from.
    base_hash : str
        ``"sha256:…"`` of the base's weights file: the own file holds only what was trained.
    method : str
        ``"decoder"``, ``"lora"``, ``"mona"`` or ``"full"``.
    data : str
        Name of the data set.
    data_hash : str
        ``"sha256:…"`` of its manifest, or of its index and splits.
    seed : int
    date : str
        ISO 8601, UTC.
    run : str
        Identifies the training run.
    verdict : str
        ``"better"``, ``"same"`` or ``"worse"`` than the base on images held out; empty where it
        was not measured.
    figures : mapping of str to Any
        Before and after, and how many objects and images it learned from; ready for JSON.
    """

    base: str
    base_hash: str
    method: str
    data: str
    data_hash: str
    seed: int
    date: str
    run: str = ""
    verdict: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class ModelCard:
    """A model's card.

    Parameters
    ----------
    name : str
        The name that users type and pick.
    decoder : str
        The family: ``"sam"``, ``"classical"``, ``"wsi-sam"``, …
    title : str
        One line for people.
    licence : str
        Of the weights, as their source states it; ``"none stated"`` where it does not.
    prompts : tuple of PromptKind
    window_px : int
        Side of the square window.
    mpp : float, optional
        The µm/px that it was trained at; None: it follows the zoom.
    window_scales : tuple of float
        Scale of each window relative to the finest: ``(1.0,)`` for one, ``(1.0, 2.0)`` for a
        concentric pair.
    files : tuple of WeightFile
    non_commercial : bool
        Ask once before the first use.
    variant : str, optional
        What the family needs to build it, for example ``"vit_b"``.
    note : str
        Limits and where files come from.
    aliases : tuple of str
        Other names that lead to this card.
    pixels : {"imagenet", "minmax"}
        How the network wants its pixels: minus mean over deviation (SAM), or stretched to 0 to 1
        per image (MedSAM).
    page : str
        Where a person reads about the weights and finds files that must be brought by hand.
    object_px : tuple of float, optional
        Window px, least and most, that the longer side of an object should have; given, the
        window's scale follows a box or an object's known size before it follows the zoom.
    boxes_by : str, optional
        For a model that takes boxes only: the model whose mask of other prompts gives the box.
    trained : Trained, optional
        Given for a model that was trained from another one here.
    finds : {"objects", "regions"}, optional
        What it finds without prompts, see `napari_histosam.models.automatic`.
    classes : tuple of str
        The classes of what it finds, in the order of the network's outputs.
    recipe : mapping of str to Any
        What else the family needs to know of how the weights were made, ready for JSON: its
        folder says which names it reads.
    """

    name: str
    decoder: str
    title: str
    licence: str
    prompts: tuple[PromptKind, ...]
    window_px: int = 1024
    mpp: float | None = None
    window_scales: tuple[float, ...] = (1.0,)
    files: tuple[WeightFile, ...] = ()
    non_commercial: bool = False
    variant: str | None = None
    note: str = ""
    aliases: tuple[str, ...] = ()
    pixels: Pixels = "imagenet"
    page: str = ""
    object_px: tuple[float, float] | None = None
    boxes_by: str | None = None
    trained: Trained | None = None
    finds: Finds | None = None
    classes: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def takes(self) -> tuple[PromptKind, ...]:
        """The prompts that users may give, also those that another model makes a box of."""
        return self.prompts if self.boxes_by is None else get_args(PromptKind)
