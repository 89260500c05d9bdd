"""The part of a session that has several models answer the same prompts, side by side."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_histosam.errors import InputError
from napari_histosam.session.usual_size import usual_side

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari_histosam.records import SlideObject
    from napari_histosam.session.asking import Asking
    from napari_histosam.session.comparing import Comparing
    from napari_histosam.session.comparison import Comparison
    from napari_histosam.session.previews import ObjectPreview, Preview
    from napari_histosam.session.prompt_set import PromptSet
    from napari_histosam.store import ObjectStore

# Where an object's metadata say what other models answered to its prompts.
COMPARED = "Compared with"


class SideBySide(ABC):
    """Compares the answer of the model at work with those of others."""

    store: ObjectStore
    prompts: PromptSet
    current_class: str | None
    view_scale: float | None
    _asking: Asking
    _comparing: Comparing
    _undone_edits: int

    @property
    @abstractmethod
    def preview(self) -> Preview | None:
        """What is shown."""

    @property
    @abstractmethod
    def active(self) -> tuple[str, ObjectPreview] | None:
        """Id and preview of the object that corrections go to."""

    def compare(self, models: Iterable[str]) -> None:
        """Have each prompt of the current object answered by further models, too; by none if empty.

        Their answers come through ``comparison_changed`` and `comparison`, one by one, while the
        model at work goes on answering first.

        Raises
        ------
        InputError
            If there is no such model.
        """
        self._comparing.choose(list(models))
        self._ask_others()

    @property
    def compared(self) -> tuple[str, ...]:
        """The models that are asked beside the one at work."""
        return self._comparing.models

    @property
    def comparison(self) -> Comparison | None:
        """What the models answer to the present prompts, as far as it is in."""
        return self._comparing.current

    def take(self, model: str) -> None:
        """Show a model's answer of the comparison as the preview, to be corrected or accepted.

        Raises
        ------
        InputError
            If that model has not answered.
        """
        found = self.comparison
        entrant = None if found is None else found.entrant(model)
        if found is None or entrant is None or entrant.shown is None:
            raise InputError(f"{model} has not answered the present prompts; wait for its mask.")
        self._asking.check_answered()
        if self.preview is not None and found.name in self.preview.objects:
            self.prompts.note_correction(self.preview)
            self._undone_edits = 0
            self._asking.change(found.name, entrant.shown)

    def _ask_others(self) -> None:
        """Have the answer that is shown compared, or bring what is compared up to date."""
        found, preview = self.active, self.preview
        if not self._comparing.models or found is None or preview is None:
            self._comparing.drop()
            return
        name, shown = found
        side = usual_side(self.store, self.current_class)
        self._comparing.ask(preview, name, shown.prompts, self.view_scale, side)

    def _with_record(
        self, made: dict[str, SlideObject], shown: Mapping[str, ObjectPreview]
    ) -> dict[str, SlideObject]:
        """Note on the compared object what the other models answered."""
        found = self.comparison
        if found is None or found.name not in made:
            return made
        record = found.record(shown[found.name].model)
        if not record:
            return made
        one = made[found.name]
        metadata = {**one.metadata, COMPARED: record}
        return {**made, found.name: replace(one, metadata=metadata)}
