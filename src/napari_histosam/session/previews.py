"""The records between a prompt and its acceptance: what is asked, what is shown."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shapely import MultiPolygon, Polygon

    from napari_histosam.geometry.window import Window
    from napari_histosam.records import Prompt
    from napari_histosam.session.offered import Offered


@dataclass(frozen=True)
class ObjectPreview:
    """The model's answer for one object, not yet accepted.

    Parameters
    ----------
    prompts : tuple of Prompt
    window : Window
        What the model saw.
    candidates : Offered
        The model's masks with their scores, best first.
    chosen : int
        Which candidate is shown.
    geometry : Polygon or MultiPolygon, optional
        The shown outline in level-0 px; None where the mask is empty.
    edited : bool
        Whether the outline was corrected by hand since the model's answer.
    drawn : bool
        Whether corrections by hand have gone into it, then or before an earlier answer.
    first : Polygon or MultiPolygon, optional
        The model's first answer for this object.
    cut : bool
        Whether the mask still touches its window's edge.
    model, weights_hash : str
        Who answered.
    box : Prompt, optional
        What the model was given in place of the prompts, because it takes boxes only.
    boxed_by : str
        The model whose mask of the prompts that box is drawn round; empty where there is none.
    """

    prompts: tuple[Prompt, ...]
    window: Window
    candidates: Offered
    chosen: int = 0
    geometry: Polygon | MultiPolygon | None = None
    edited: bool = False
    drawn: bool = False
    first: Polygon | MultiPolygon | None = None
    cut: bool = False
    model: str = ""
    weights_hash: str = ""
    box: Prompt | None = None
    boxed_by: str = ""

    @property
    def remark(self) -> str:
        """What a user has to know about how the answer came about; mostly nothing."""
        if not self.boxed_by:
            return ""
        if self.box is None:
            return (
                f"{self.model} takes boxes only, and {self.boxed_by} found no object at the click "
                "to draw one round: drag a box."
            )
        return f"{self.model} takes boxes only: it was given the box of {self.boxed_by}'s mask."

    @property
    def score(self) -> float:
        """The model's estimate for the chosen mask, 0 to 1."""
        return float(self.candidates.scores[self.chosen])

    def corrected(self, geometry: Polygon | MultiPolygon | None) -> ObjectPreview:
        """Return the preview with an outline that was drawn by hand."""
        return replace(self, geometry=geometry, edited=True, drawn=True)

    def choose(self, index: int, slide_size: tuple[int, int]) -> ObjectPreview:
        """Return the preview with another of its candidates shown, in place of any correction."""
        geometry = self.candidates.outline(index, self.window, self.prompts, slide_size)
        return replace(self, chosen=index, geometry=geometry, edited=False, drawn=False)


@dataclass(frozen=True)
class Preview:
    """The answer to one set of prompts.

    Parameters
    ----------
    generation : int
        The number of the prompt set it answers; older answers are dropped.
    objects : mapping of str to ObjectPreview
    encode_ms, decode_ms : float
        Time spent encoding (0 when all windows came from the cache) and decoding.
    """

    generation: int
    objects: Mapping[str, ObjectPreview]
    encode_ms: float = 0.0
    decode_ms: float = 0.0


@dataclass(frozen=True)
class Request:
    """What to answer.

    Parameters
    ----------
    generation : int
    groups : mapping of str to tuple of Prompt
        Prompts by object.
    view_scale : float, optional
        Level-0 px per screen px.
    expected_side : float, optional
        The side (root of the area) in level-0 px that such objects had so far.
    previous : mapping of str to ObjectPreview
        The last answers: those whose prompts are the same stand, of the others the windows and
        logits are used again.
    """

    generation: int
    groups: Mapping[str, tuple[Prompt, ...]]
    view_scale: float | None = None
    previous: Mapping[str, ObjectPreview] = field(default_factory=dict)
    expected_side: float | None = None
