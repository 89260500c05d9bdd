"""What a user can tell a session to do by key or button; what goes wrong is said, never raised."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from napari_histosam.session import editing
from napari_histosam.viewer.attempt import told

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_histosam.session import Session
    from napari_histosam.session.editing import Edit
    from napari_histosam.viewer.patches import PatchWork
    from napari_histosam.viewer.review_walk import ReviewWalk


class Commands(ABC):
    """The commands of one session."""

    session: Session
    review: ReviewWalk
    patches: PatchWork

    @abstractmethod
    def say(self, text: str) -> None:
        """Tell the user something."""

    @property
    @abstractmethod
    def unit(self) -> float:
        """Level-0 px per screen px."""

    @told
    def accept(self) -> None:
        """Keep what is previewed or, in a review, the object at hand as it is."""
        if self.review.in_hand:
            self.review.accept()
            return
        refined = self.session.prompts.refines
        kept = self.session.accept()
        if kept:
            name = self.session.store.get(kept[0]).class_name or "unclassified"
            self.say(f"Kept as {name}." if len(kept) == 1 else f"Kept {len(kept)} objects.")
        self.review.refined(refined)

    def accept_or_normal(self) -> None:
        """Accept or, while patches are labelled, call the one under the pointer normal."""
        if self.patches.in_hand:
            self.patches.label_under("normal")
        else:
            self.accept()

    def tumour(self) -> None:
        """While patches are labelled, call the one under the pointer tumour."""
        if self.patches.in_hand:
            self.patches.label_under("tumour")

    @told
    def reject(self) -> None:
        """Forget prompts and preview or, without any, the selection; end labelling of patches."""
        if self.patches.in_hand:
            self.patches.end()
        elif len(self.session.prompts) or self.session.preview is not None:
            self.session.reject()
        elif not self.review.in_hand:
            self.session.objects.select([])

    @told
    def next_candidate(self) -> None:
        """Show the model's next mask or, in a review, the next object."""
        if self.review.in_hand:
            self.review.later()
        else:
            self.session.next_candidate()

    @told
    def next_object(self) -> None:
        """Prompt a further object before accepting or, in a review, edit the object at hand."""
        if self.review.in_hand:
            self.review.edit()
            return
        self.session.next_object()
        self.say("The next clicks are for another object; accept keeps all of them.")

    @told
    def compare(self, models: Iterable[str]) -> None:
        """Have prompts answered by further models, too."""
        self.session.compare(models)

    @told
    def take(self, model: str) -> None:
        """Show another model's answer as the one in hand."""
        self.session.take(model)
        self.say(f"The mask of {model} is in hand; accept keeps it.")

    @told
    def undo(self) -> None:
        """Take the last prompt or edit back."""
        done = self.session.undo()
        self.say(f"Undone: {done}." if done else "Nothing to undo.")

    @told
    def redo(self) -> None:
        """Do again what was taken back."""
        done = self.session.redo()
        self.say(f"Redone: {done}." if done else "Nothing to redo.")

    @told
    def delete(self) -> None:
        """Delete the selected objects, or reject the object, or clear the patch at hand."""
        if self.review.in_hand:
            self.review.reject()
            return
        if self.patches.in_hand:
            self.patches.label_under(None)
            return
        chosen = len(self.session.objects.selection)
        gone = self.session.objects.delete()
        if chosen > gone:
            self.say(f"{chosen - gone} of {chosen} selected objects are locked and stay.")

    @told
    def choose_class(self, index: int) -> None:
        """Choose the class at a place in the list (0 the first)."""
        classes = self.session.store.classes()
        if index < len(classes):
            self.session.set_class(classes[index].name)

    @told
    def edit(self, edit: Edit, label: str) -> None:
        """Correct the preview or the selected objects."""
        self.session.edit(edit, label)

    def fill_holes(self) -> None:
        """Close the holes of the preview or of the selected objects."""
        self.edit(editing.fill_holes(), "Fill holes")

    def smooth(self) -> None:
        """Round off details of about three screen px."""
        self.edit(editing.smooth(3 * self.unit), "Smooth")

    @told
    def merge(self) -> None:
        """Unite the selected objects."""
        self.session.objects.merge()

    @told
    def refine(self) -> None:
        """Hand the selected object to the model as a mask prompt."""
        chosen = self.session.objects.selection
        if len(chosen) == 1:
            self.session.refine(chosen[0])
        else:
            self.say("Select one object, then refine it.")
