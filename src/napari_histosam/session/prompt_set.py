"""The prompts of the objects in hand, with an undo of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_histosam.session.prompts import group

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_histosam.records import Prompt
    from napari_histosam.session.previews import Preview


@dataclass(frozen=True)
class Moment:
    """How things stood between two actions.

    Parameters
    ----------
    prompts : tuple of Prompt
    current : int
        The object that takes the next prompt.
    refines : (str, str), optional
        The prompted object that refines an accepted one, and that one's id.
    shown : Preview, optional
        What was on the screen, hand corrections included, so that undo brings back just that.
    """

    prompts: tuple[Prompt, ...] = ()
    current: int = 1
    refines: tuple[str, str] | None = None
    shown: Preview | None = None


class PromptSet:
    """The prompts given since the last acceptance, grouped by object.

    Clicks go to the current object; `next_object` opens another, so that several objects are
    answered in one decoder call.
    """

    def __init__(self) -> None:
        self._now = Moment()
        self._past: list[Moment] = []
        self._undone: list[Moment] = []

    def __len__(self) -> int:
        return len(self._now.prompts)

    @property
    def current(self) -> str:
        """Id of the object that takes the next prompt."""
        return str(self._now.current)

    @property
    def refines(self) -> tuple[str, str] | None:
        """The prompted object that refines an accepted one, and that one's id."""
        return self._now.refines

    @property
    def can_redo(self) -> bool:
        """Whether a step was taken back and nothing was added since."""
        return bool(self._undone)

    def add(
        self,
        prompts: Iterable[Prompt],
        shown: Preview | None = None,
        *,
        refines: tuple[str, str] | None = None,
    ) -> None:
        """Append prompts as one step; what was undone can then no longer be redone.

        Parameters
        ----------
        prompts : iterable of Prompt
        shown : Preview, optional
            What is on the screen before this step.
        refines : (str, str), optional
            See `Moment`.
        """
        self._step(shown)
        self._now = replace(
            self._now,
            prompts=(*self._now.prompts, *prompts),
            refines=refines or self._now.refines,
        )

    def note_correction(self, shown: Preview | None) -> None:
        """Make the correction that follows a step of its own; ``shown`` is how it was before."""
        self._step(shown)

    def undo(self, shown: Preview | None = None) -> Moment | None:
        """Go back one step; None if there is none. ``shown`` is kept for the way back."""
        return self._move(self._past, self._undone, shown)

    def redo(self, shown: Preview | None = None) -> Moment | None:
        """Go forward again one step; None if there is none."""
        return self._move(self._undone, self._past, shown)

    def next_object(self) -> str:
        """Send the prompts from here on to a new object; return its id."""
        used = {p.object for p in self._now.prompts}
        if self.current in used:
            number = self._now.current + 1
            while str(number) in used:
                number += 1
            self._now = replace(self._now, current=number)
        return self.current

    def clear(self) -> None:
        """Forget all prompts and steps."""
        self._now = Moment()
        self._past.clear()
        self._undone.clear()

    def all(self) -> tuple[Prompt, ...]:
        """Return all prompts in the order given."""
        return self._now.prompts

    def by_object(self) -> dict[str, tuple[Prompt, ...]]:
        """Return the prompts of each object, objects in the order of their first prompt."""
        return group(self._now.prompts)

    def answerable(self) -> dict[str, tuple[Prompt, ...]]:
        """Return the objects that have more than negative prompts: those name no object."""
        return {
            name: prompts
            for name, prompts in self.by_object().items()
            if any(p.role != "negative" for p in prompts)
        }

    def _step(self, shown: Preview | None) -> None:
        self._past.append(replace(self._now, shown=shown))
        self._undone.clear()

    def _move(
        self, source: list[Moment], target: list[Moment], shown: Preview | None
    ) -> Moment | None:
        if not source:
            return None
        target.append(replace(self._now, shown=shown))
        self._now = source.pop()
        return self._now
