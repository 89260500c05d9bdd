"""What a reviewer says of an object, as one undoable step of the store each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_histosam.errors import InputError
from napari_histosam.records import Review

if TYPE_CHECKING:
    from napari_histosam.records import SlideObject
    from napari_histosam.store import ObjectStore


def accept(store: ObjectStore, key: str) -> bool:
    """Say that an object is right as it is; return whether that was news.

    One that was corrected by hand stays "corrected", for that says more.

    Raises
    ------
    InputError
        There is no such object, or the store is read-only.
    """
    target = store.get(key)
    if target.review is not None:
        return False
    done = replace(target, review=Review("accepted", store.author))
    store.update([done], label="Accept in review")
    return True


def reject(store: ObjectStore, key: str) -> None:
    """Take an object out of the objects; the store remembers it as a mistake.

    Raises
    ------
    InputError
        There is no such object, it is locked, or the store is read-only.
    """
    unlocked(store, key, "reject it")
    store.reject([key], label="Reject in review")


def unlocked(store: ObjectStore, key: str, then: str) -> SlideObject:
    """Return an object that may be changed.

    Raises
    ------
    InputError
        There is no such object, or it is locked.
    """
    target = store.get(key)
    if target.locked:
        raise InputError(f"The object is locked: unlock it, then {then}.")
    return target
