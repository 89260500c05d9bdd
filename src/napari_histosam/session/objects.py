"""The accepted objects in hand: which are selected, and every change to them as one undo step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_histosam.errors import InputError
from napari_histosam.geometry import polygons
from napari_histosam.records import Review, SlideObject, now
from napari_histosam.session.outcome import with_first

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike

    from napari_histosam.session.editing import Edit
    from napari_histosam.store import Change, ObjectStore


class ObjectDesk:
    """Selects and changes the objects of one store.

    Locked objects stay as they are: a change leaves them out, and is refused if nothing else is
    selected.

    Parameters
    ----------
    store : ObjectStore

    Notes
    -----
    ``selection_changed`` carries the tuple of selected ids.
    """

    selection_changed = Signal(tuple)

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self._selection: tuple[str, ...] = ()
        store.changed.connect(self._forget_removed)

    @property
    def selection(self) -> tuple[str, ...]:
        """Ids of the selected objects."""
        return self._selection

    def select(self, ids: Iterable[str]) -> None:
        """Select exactly these objects."""
        chosen = tuple(dict.fromkeys(ids))
        if chosen != self._selection:
            self._selection = chosen
            self.selection_changed.emit(chosen)

    def select_at(self, x: float, y: float, *, add: bool = False) -> str | None:
        """Select the object under a level-0 point; ``add`` keeps (or toggles) the others."""
        found = self.store.at(x, y)
        if not add:
            self.select([found] if found else [])
        elif found in self._selection:
            self.select(i for i in self._selection if i != found)
        elif found:
            self.select((*self._selection, found))
        return found

    def selected(self) -> list[SlideObject]:
        """Return the selected objects."""
        return self.store.get_many(self._selection)

    def set_class(self, class_name: str | None) -> None:
        """Give the selected objects a class (None: unclassified).

        Raises
        ------
        InputError
            If all of them are locked.
        """
        changed = [
            replace(o, class_name=class_name, modified=now())
            for o in self._unlocked("give it a class")
            if o.class_name != class_name
        ]
        if changed:
            self.store.update(changed, label=f"Class {class_name or 'none'}")

    def delete(self) -> int:
        """Delete the selected objects that are not locked; return how many went.

        Raises
        ------
        InputError
            If all of them are locked.
        """
        ids = [o.id for o in self._unlocked("delete it")]
        if ids:
            self.store.delete(ids, label="Delete" if len(ids) == 1 else f"Delete {len(ids)}")
        return len(ids)

    def edit(self, edit: Edit, label: str) -> None:
        """Apply a correction to each selected object; one that vanishes is deleted.

        Raises
        ------
        InputError
            If nothing with an area is selected or all of it is locked.
        """
        targets = self._areas("edit it")
        if not targets:
            raise InputError("Select an object with an area, then edit it.")
        kept: list[SlideObject] = []
        gone: list[str] = []
        # Of several that are smoothed together, nobody can tell whether each was looked at.
        corrected = self._corrected() if len(targets) == 1 else None
        for target in targets:
            shape = edit(target.geometry)
            if shape is None:
                gone.append(target.id)
            elif not shape.equals(target.geometry):
                kept.append(
                    replace(
                        target,
                        geometry=shape,
                        modified=now(),
                        provenance=with_first(target),
                        review=corrected or target.review,
                    )
                )
        if gone:
            # One undo step must bring all of it back, so both go into one replacement.
            self.store.replace([*gone, *(o.id for o in kept)], kept, label=label)
        elif kept:
            self.store.update(kept, label=label)

    def merge(self) -> str:
        """Unite the selected objects into the first of them; return its id.

        Raises
        ------
        InputError
            If fewer than two with an area are selected and not locked.
        """
        targets = self._areas("merge it")
        if len(targets) < 2:
            raise InputError("Select at least two objects that are not locked, then merge.")
        shape = polygons.union([o.geometry for o in targets])
        if shape is None:
            raise InputError("The selected objects have no area; select others, then merge.")
        first = replace(targets[0], geometry=shape, modified=now(), review=self._corrected())
        self.store.replace([o.id for o in targets], [first], label=f"Merge {len(targets)}")
        self.select([first.id])
        return first.id

    def split(self, path: ArrayLike) -> list[str]:
        """Cut the selected objects along a path (n, 2) in level-0 px; return all their ids.

        The largest piece keeps the object's id; the others get its class and its provenance.

        Raises
        ------
        InputError
            If the path cuts none of them in two.
        """
        removed: list[str] = []
        pieces: list[SlideObject] = []
        for target in self._areas("cut it"):
            parts = polygons.split(target.geometry, path)
            if len(parts) < 2:
                continue
            removed.append(target.id)
            done = self._corrected()
            pieces.append(replace(target, geometry=parts[0], modified=now(), review=done))
            pieces.extend(
                SlideObject(
                    geometry=part,
                    class_name=target.class_name,
                    object_type=target.object_type,
                    provenance=target.provenance,
                    review=done,
                )
                for part in parts[1:]
            )
        if not pieces:
            raise InputError("The line cuts no selected object in two; draw it right across one.")
        self.store.replace(removed, pieces, label="Split")
        self.select(o.id for o in pieces)
        return [o.id for o in pieces]

    def _unlocked(self, then: str) -> list[SlideObject]:
        chosen = self.selected()
        free = [o for o in chosen if not o.locked]
        if chosen and not free:
            what = "The object is" if len(chosen) == 1 else f"All {len(chosen)} objects are"
            raise InputError(f"{what} locked: select one that is not, then {then}.")
        return free

    def _corrected(self) -> Review:
        """Return what an edit by hand says: the object was looked at and put right."""
        return Review("corrected", self.store.author)

    def _areas(self, then: str) -> list[SlideObject]:
        return [
            o for o in self._unlocked(then) if o.geometry.geom_type in ("Polygon", "MultiPolygon")
        ]

    def _forget_removed(self, change: Change) -> None:
        if change.reset:
            # Another window may have deleted some of them.
            self.select(o.id for o in self.selected())
            return
        gone = set(change.removed)
        if gone.intersection(self._selection):
            self.select(i for i in self._selection if i not in gone)
