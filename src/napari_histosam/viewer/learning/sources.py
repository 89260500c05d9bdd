"""What slides hold to learn from: objects by class, how many were corrected, if they suffice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_histosam.errors import InputError
from napari_histosam.store.places import SUFFIX, beside
from napari_histosam.train.dataset.patients import SETTING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from napari_histosam.records import SlideObject
    from napari_histosam.slide import Slide
    from napari_histosam.store import ObjectStore

# Objects below which, and from which on, the advice changes: rules of thumb, not measured.
FEW, GOOD = 10, 50
# Slides proposed from the folder of the open one: those worked on last.
NEARBY = 8
# Side of a window, and of a typical object in it, in px.
WINDOW_PX, _OBJECT_PX = 512, 50.0


@dataclass(frozen=True)
class Teaching:
    """What one slide holds.

    Parameters
    ----------
    key : str
        The slide's identity, or its path where that is unknown.
    name : str
        The slide's.
    path : Path
        Store or slide, as ``histosam dataset`` takes it.
    objects, corrected : mapping of (str or None) to int
        By class; None stands for the unclassified. Corrected are those whose outline differs
        from the model's first answer, or that were corrected in a review.
    unseen : int
        Automatic objects that nobody has accepted or corrected, which do not count.
    windows : int
        About how many windows show them.
    regions : int
        Areas in which everything is labelled.
    patient : str
        Empty where the slide stands for itself.
    """

    key: str
    name: str
    path: Path
    objects: Mapping[str | None, int] = field(default_factory=dict, hash=False)
    corrected: Mapping[str | None, int] = field(default_factory=dict, hash=False)
    windows: int = 0
    regions: int = 0
    patient: str = ""
    unseen: int = 0

    @property
    def count(self) -> int:
        """Objects in all."""
        return sum(self.objects.values())

    @property
    def count_corrected(self) -> int:
        """Corrected objects in all."""
        return sum(self.corrected.values())


def survey_open(slide: Slide, store: ObjectStore, step: Callable[[], None]) -> Teaching | None:
    """Return what the slide at work holds; None for a picture without a file.

    Parameters
    ----------
    slide : Slide
    store : ObjectStore
        Its own; read from any thread.
    step : callable
        Called now and then; may raise to stop.
    """
    if slide.path is None or store.path is None:
        return None
    path = Path(slide.path)
    # From a folder that may not be written, the slide leads to its store, wherever that is.
    where = store.path if store.path == beside(path.absolute()) else path
    patient = str(store.setting(SETTING, "") or "").strip()
    key = slide.identity or str(path)
    return _taught(key, slide.name, where, store.iterate(), step, patient)


def survey(path: Path, step: Callable[[], None]) -> list[Teaching]:
    """Return what a store, a slide or a folder of stores holds.

    Raises
    ------
    InputError
        If it cannot be read, or holds no objects; one sentence.
    """
    from napari_histosam.train.dataset.sources import read_sources

    found = []
    for source in read_sources([path], step=lambda _name: step()):
        # A folder leads to several slides, whose stores lie in it.
        where = path if path.is_file() else beside(source.path)
        found.append(
            _taught(source.identity, source.name, where, source.objects, step, source.patient)
        )
    return found


def nearby(slide: Path) -> list[Path]:
    """Return the stores of other slides in a slide's folder, the one changed last first."""
    own = beside(slide.absolute())
    dated = []
    for path in own.parent.glob(f"*{SUFFIX}"):
        try:
            if path != own:
                dated.append((path.stat().st_mtime, path))
        except OSError:
            continue
    return [path for _, path in sorted(dated, reverse=True)[:NEARBY]]


def state_of(path: Path) -> tuple[object, ...]:
    """Return what differs when a slide's objects have changed."""
    store = path if path.name.endswith(SUFFIX) else beside(path)
    found: list[object] = []
    for one in (store, Path(f"{store}-wal")):
        try:
            about = one.stat()
            found.append((about.st_mtime_ns, about.st_size))
        except OSError:
            found.append(None)
    if found[0] is None:
        # Its objects are kept elsewhere: no telling.
        return (object(),)
    return tuple(found)


@dataclass(frozen=True)
class Advice:
    """Whether slides suffice for a training.

    Parameters
    ----------
    level : {"no", "little", "good"}
    text : str
        One sentence.
    """

    level: str
    text: str

    @property
    def enough(self) -> bool:
        """Whether a training can be begun."""
        return self.level != "no"


def advice(chosen: Sequence[Teaching]) -> Advice:
    """Say in a sentence whether the chosen slides suffice, and in another what does not count."""
    found = _judged(chosen)
    unseen = sum(one.unseen for one in chosen)
    if not unseen:
        return found
    what = "counts once it is" if unseen == 1 else "count once they are"
    rest = f"{_many(unseen, 'automatic object')} {what} accepted in the tab Review."
    return Advice(found.level, f"{found.text} {rest}")


def lacks_background(chosen: Sequence[Teaching]) -> Advice | None:
    """Say whether a model that finds things by itself can learn what is background.

    Returns
    -------
    Advice or None
        Level ``"no"`` where no slide has an area in which everything is labelled, ``"little"``
        where some lack one; None where all have one.
    """
    full = [one for one in chosen if one.count]
    bare = [one.name for one in full if not one.regions]
    if not bare:
        return None
    how = "zoom to a part in which every object is labelled and press Mark view as fully labelled."
    if len(bare) == len(full):
        return Advice(
            "no",
            f"A model that works without prompts must also see where there is nothing: {how}",
        )
    names = ", ".join(bare[:3]) + (" …" if len(bare) > 3 else "")
    return Advice("little", f"Nothing is known of the background of {names}: there, too, {how}")


def _judged(chosen: Sequence[Teaching]) -> Advice:
    full = [one for one in chosen if one.count]
    objects, groups = sum(one.count for one in full), groups_of(full)
    if not objects:
        return Advice("no", "No objects yet: accept some on two slides or more, then train.")
    # Where no two slides are of one patient, slides are what there is to speak of.
    of = "patient" if groups < len(full) else "slide"
    slides = _many(len(full), "slide") + (f" of {_many(groups, of)}" if of == "patient" else "")
    what = f"{slides} with {_many(objects, 'object')}"
    if groups == 1:
        other = "a slide of another patient" if of == "patient" else "another slide"
        return Advice("no", f"{what}: there is nothing to test on; add {other} with objects.")
    if objects < FEW:
        return Advice("little", f"{what}: enough to try it out; expect little of so few.")
    if objects < GOOD or groups == 2:
        lacks = f"a third {of}" if objects >= GOOD else f"{GOOD} objects or more"
        return Advice("little", f"{what}: this can be learned from; {lacks} would make it surer.")
    return Advice(
        "good", f"{what}: enough to train and test; whether it helps, the test will tell."
    )


def groups_of(chosen: Sequence[Teaching]) -> int:
    """Return how many can be held out one by one: patients, and slides without one."""
    return len({one.patient or (one.key,) for one in chosen if one.count})


def _taught(
    key: str,
    name: str,
    path: Path,
    objects: Iterable[SlideObject],
    step: Callable[[], None],
    patient: str,
) -> Teaching:
    from napari_histosam.train.dataset.kinds import role_of

    regions = 0
    counts: Counter[str | None] = Counter()
    corrected: Counter[str | None] = Counter()
    bounds, unseen = [], 0
    for number, one in enumerate(objects):
        if number % 200 == 0:
            step()
        if one.geometry.area <= 0:
            continue
        role = role_of(one.class_name)
        regions += role == "region"
        if role != "object":
            continue
        changed = is_corrected(one)
        if one.provenance.source == "automatic" and not changed and one.review is None:
            # Nobody has looked at it: no truth, see `train.dataset.kinds`.
            unseen += 1
            continue
        counts[one.class_name] += 1
        corrected[one.class_name] += changed
        bounds.append(one.geometry.bounds)
    windows = _windows(bounds)
    return Teaching(
        key, name, path, dict(counts), dict(corrected), windows, regions, patient, unseen
    )


def is_corrected(one: SlideObject) -> bool:
    """Tell whether an outline differs from the model's first answer, or a review says so."""
    if one.review is not None and one.review.state == "corrected":
        return True
    first = one.provenance.first_mask
    if first is None:
        return False
    return not first.equals_exact(one.geometry, 0.01) and not first.equals(one.geometry)


def _windows(bounds: Sequence[tuple[float, float, float, float]]) -> int:
    """Return about how many windows show objects: the occupied cells of a grid."""
    if not bounds:
        return 0
    boxes = np.array(bounds)
    sides = (boxes[:, 2:] - boxes[:, :2]).max(1)
    cell = max(WINDOW_PX * float(np.median(sides)) / _OBJECT_PX, 1.0)
    cells = np.floor((boxes[:, :2] + boxes[:, 2:]) / 2 / cell)
    return len(np.unique(cells, axis=0))


def name_patient(one: Teaching, patient: str) -> None:
    """Keep a slide's patient in its store; empty lets the slide stand for itself.

    Raises
    ------
    InputError
        If the store cannot be opened, or another window is writing to it.
    """
    from napari_histosam.store import ObjectStore, open_store_for

    if one.path.name.endswith(SUFFIX):
        opened = ObjectStore.open(one.path)
    else:
        opened = open_store_for(one.path, one.key, one.name)
    with opened as store:
        store.set_setting(SETTING, patient.strip())


def check_path(path: Path) -> Path:
    """Return the store or slide that a user has picked.

    Raises
    ------
    InputError
        If it is a side file of a store.
    """
    for side in (".lock", "-wal", "-shm", "-journal"):
        if path.name.endswith(f"{SUFFIX}{side}"):
            raise InputError(f"{path.name} only accompanies a store; choose the slide itself.")
    return path


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"
