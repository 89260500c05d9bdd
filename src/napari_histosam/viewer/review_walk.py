"""The way through the objects that are to be reviewed: where one is, what is next, what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from psygnal import Signal

from napari_histosam.errors import InputError
from napari_histosam.session.review import Plan, ReviewQueue, accept, reject, sort_objects
from napari_histosam.session.review.decisions import unlocked
from napari_histosam.viewer.tools import Tool

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import EllipsisType

    from numpy.typing import NDArray

    from napari_histosam.jobs.runner import Job
    from napari_histosam.session import Session
    from napari_histosam.session.review import Entry
    from napari_histosam.store import Change
    from napari_histosam.viewer.controller import Controller

# Objects whose presence is looked up at once when the next one is sought.
_AHEAD = 200


@dataclass(frozen=True)
class Wanted:
    """Which objects are gone through.

    Parameters
    ----------
    class_name : str or None or ...
        One class; None the unclassified, ``...`` all.
    source : str or ...
        One of `records.Source`.
    unreviewed : bool
        Only what nobody has reviewed yet.
    ids : frozenset of str, optional
        Only these objects.
    """

    class_name: str | EllipsisType | None = ...
    source: str | EllipsisType = ...
    unreviewed: bool = True
    ids: frozenset[str] | None = None

    def __call__(self, class_name: str | None, source: str, review: str | None) -> bool:
        """Whether an object with these is gone through."""
        if self.unreviewed and review is not None:
            return False
        return self.class_name in (..., class_name) and self.source in (..., source)


class ReviewWalk:
    """Goes through one session's objects, one after the other.

    It follows the store: an object that is accepted or removed, by whatever way, is done and the
    next one is shown; one whose decision is undone is shown again.

    Parameters
    ----------
    controller : Controller
        Moves the view, selects, and tells the user what went wrong.

    Notes
    -----
    ``changed()`` is emitted when there is something else to show. While the walk is ``active`` (its
    tab is in front) it keeps its object selected, and the keys for a mask mean this object.
    """

    changed = Signal()

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._session = controller.session
        self._queue: ReviewQueue | None = None
        self._list: NDArray[np.int64] = np.empty(0, np.int64)
        self._at = 0
        self._done: dict[str, int] = {}
        self._active = False
        self.wanted = Wanted()
        self._session.store.changed.connect(self._on_change)
        self._session.prompts_changed.connect(self._hold)
        self._session.preview_changed.connect(self._hold)
        self._session.objects.selection_changed.connect(self._on_selection)

    # -- where we are ------------------------------------------------------------------------

    @property
    def begun(self) -> bool:
        """Whether there is a list to go through."""
        return self._queue is not None

    def __len__(self) -> int:
        return len(self._list)

    @property
    def position(self) -> int:
        """How many objects of the list lie behind."""
        return self._at

    @property
    def current(self) -> Entry | None:
        """The object at hand, as it was when the list was made; None before and after the walk."""
        if self._queue is None or self._at >= len(self._list):
            return None
        return self._queue.entry(int(self._list[self._at]))

    @property
    def in_hand(self) -> bool:
        """Whether the keys for a mask mean the object at hand: it is selected, nothing prompted."""
        session = self._session
        if not self._active or len(session.prompts) or session.preview is not None:
            return False
        now = self.current
        return now is not None and session.objects.selection == (now.id,)

    @property
    def editing(self) -> bool:
        """Whether the object at hand is with the model to be corrected."""
        now, link = self.current, self._session.prompts.refines
        return now is not None and link is not None and link[1] == now.id

    @property
    def active(self) -> bool:
        """Whether the walk has the keys."""
        return self._active

    @active.setter
    def active(self, active: bool) -> None:
        if active == self._active:
            return
        self._active = active
        if not len(self._session.prompts):
            self.show()

    # -- going -------------------------------------------------------------------------------

    def begin(self, queue: ReviewQueue, wanted: Wanted | None = None) -> None:
        """Go through a list from its start."""
        if self._controller.closed:
            return
        self._queue = queue
        self.choose(wanted or self.wanted)

    def choose(self, wanted: Wanted) -> None:
        """Go through those objects of the list that are wanted, from the first one."""
        self.wanted = wanted
        self._done.clear()
        if self._queue is not None:
            self._list = self._queue.keep(wanted, wanted.ids)
            self._go(0)

    def end(self) -> None:
        """Stop; what was said stays."""
        self._queue = None
        self._list = np.empty(0, np.int64)
        self._at = 0
        self._done.clear()
        self.changed.emit()

    def later(self) -> None:
        """Leave the object as it is and show the next."""
        self._go(self._at + 1)

    def back(self) -> None:
        """Show the object before this one."""
        self._go(self._at - 1, -1)

    def show(self) -> None:
        """Fly to the object at hand and select it."""
        now = self.current
        if self._active and now is not None:
            self._controller.fly_to(now.id)
        self.changed.emit()

    # -- saying ------------------------------------------------------------------------------

    def accept(self) -> None:
        """Say that the object at hand is right."""
        now = self._taken()
        if not accept(self._session.store, now.id):
            self._finish(now.id)

    def reject(self) -> None:
        """Take the object at hand away; it is remembered as a mistake."""
        reject(self._session.store, self._taken().id)

    def edit(self) -> None:
        """Hand the object at hand to the model, so that clicks correct it.

        A model that takes no masks leaves the brush, which works on the selected object.
        """
        now = self._taken()
        unlocked(self._session.store, now.id, "edit it")
        try:
            self._session.refine(now.id)
        except InputError as error:
            self._controller.set_tool(Tool.BRUSH)
            self._controller.say(f"{error} The brush works on the outline itself.")
            return
        if self._controller.tool not in (Tool.CLICK, Tool.BRUSH, Tool.SCRIBBLE):
            self._controller.set_tool(Tool.CLICK)

    def set_class(self, class_name: str | None) -> None:
        """Give the object at hand a class."""
        self._taken()
        self._session.objects.set_class(class_name)

    def refined(self, link: tuple[str, str] | None) -> None:
        """Hear that prompts were accepted; ``link`` names the object that they refined, if any."""
        now = self.current
        if self._active and now is not None and link is not None and link[1] == now.id:
            self._finish(now.id)

    def close(self) -> None:
        """Let go of the session."""
        self._session.store.changed.disconnect(self._on_change)
        self._session.prompts_changed.disconnect(self._hold)
        self._session.preview_changed.disconnect(self._hold)
        self._session.objects.selection_changed.disconnect(self._on_selection)
        self._queue = None

    # -- inside ------------------------------------------------------------------------------

    def _taken(self) -> Entry:
        now = self.current
        if now is None:
            raise InputError("There is no object to review; sort the objects first.")
        if not self.in_hand:
            raise InputError("Another object or mask is in hand; finish it, or press Show it.")
        return now

    def _finish(self, key: str) -> None:
        self._done[key] = self._at
        self._go(self._at + 1)

    def _go(self, to: int, way: int = 1) -> None:
        """Go to a place of the list or, if its object is gone or done elsewhere, beyond it."""
        queue = self._queue
        if queue is None:
            return
        ids = queue.candidates.ids
        at = to
        while 0 <= at < len(self._list):
            part = self._list[at : at + _AHEAD] if way > 0 else self._list[: at + 1][-_AHEAD:][::-1]
            keys = [ids[i] for i in part]
            there = self._session.store.review_states(keys)
            for key in keys:
                fresh = way < 0 or not self.wanted.unreviewed or there.get(key) is None
                if key in there and fresh:
                    self._at = at
                    self.show()
                    return
                at += way
        if way > 0:
            self._at = len(self._list)
            if self._active and len(self._list):
                self._session.objects.select([])
        self.changed.emit()

    def _is_news(self, now: Entry, states: Mapping[str, str | None]) -> bool:
        """Whether the object at hand has just been accepted."""
        known = now.review == "accepted" or now.id in self._done
        return states.get(now.id) == "accepted" and not known

    def _hold(self, _preview: object = None) -> None:
        """Keep the object at hand selected while nothing else is in hand."""
        now = self.current
        if self._active and now is not None and not len(self._session.prompts):
            self._session.objects.select([now.id] if now.id in self._session.store else [])
        self.changed.emit()

    def _on_selection(self, _ids: object) -> None:
        self.changed.emit()

    def _on_change(self, change: Change) -> None:
        if self._queue is None:
            self.changed.emit()
            return
        now = self.current
        gone = set(change.removed)
        seen = {*change.added, *change.updated, *gone}
        states = self._session.store.review_states(
            [key for key in seen if key in self._done or (now is not None and key == now.id)]
        )
        taken_back = [
            key
            for key, state in states.items()
            if key in self._done and (state is None or key in change.added)
        ]
        if taken_back:
            places = [self._done.pop(key) for key in taken_back]
            self._go(min(places))
        elif now is not None and (now.id in gone or self._is_news(now, states)):
            self._finish(now.id)
            return
        self.changed.emit()


def sorting(session: Session, *, ask_model: bool) -> Job:
    """Return the job that sorts a session's objects for review; it gives a `ReviewQueue`."""
    from napari_histosam.train.dataset.kinds import role_of

    # What marks a region or unknown area is no object that could be right or wrong.
    plan = Plan(ask_model=ask_model, left_out=lambda name: role_of(name) != "object")
    return lambda report, cancel: sort_objects(session, plan, report, cancel)
