"""Any sequence of edits, undos, redos and restarts equals a reference in plain Python."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import shapely
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from napari_histosam.records import ObjectClass, Provenance, Review, SlideObject
from napari_histosam.store import DEFAULT_CLASSES, ObjectStore

NAMES = st.sampled_from(["Tumor", "Stroma", "A", "B", "C"])
SOURCES = st.sampled_from(["manual", "prompted", "automatic"])


@dataclass
class State:
    """What the store should hold."""

    objects: dict[str, SlideObject] = field(default_factory=dict)
    rejected: set[str] = field(default_factory=set)
    classes: dict[str, tuple[int, int, int] | None] = field(
        default_factory=lambda: {item.name: item.colour for item in DEFAULT_CLASSES}
    )


@st.composite
def objects(draw: st.DrawFn) -> SlideObject:
    x, y = draw(st.integers(0, 500)), draw(st.integers(0, 500))
    return SlideObject(
        shapely.box(x, y, x + draw(st.integers(1, 50)), y + 5),
        class_name=draw(st.none() | NAMES),
        id=f"{draw(st.integers(0, 10**9))}",
        name=draw(st.none() | st.just("n")),
        provenance=Provenance(source=draw(SOURCES), score=draw(st.none() | st.just(0.5))),
        measurements=draw(st.just({}) | st.just({"m": 1.5})),
    )


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "slide.sqlite"
        self.store = ObjectStore.open(self.path)
        self.line = [State()]
        self.at = 0
        self.clock = 0

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @property
    def now(self) -> State:
        return self.line[self.at]

    def step(self) -> State:
        """Begin a new step: a copy of the present state, and no redo any more."""
        del self.line[self.at + 1 :]
        self.line.append(copy.deepcopy(self.now))
        self.at += 1
        return self.now

    def keep(self, state: State, items: list[SlideObject]) -> None:
        for item in items:
            state.objects[item.id] = item
            if item.class_name:
                state.classes.setdefault(item.class_name, None)

    def pick(self, data: st.DataObject, least: int = 1) -> list[str]:
        known = sorted(self.now.objects)
        return data.draw(st.lists(st.sampled_from(known), min_size=least, max_size=3, unique=True))

    @rule(items=st.lists(objects(), min_size=1, max_size=3, unique_by=lambda o: o.id))
    def add(self, items: list[SlideObject]) -> None:
        items = [item for item in items if item.id not in self.now.objects]
        if items:
            self.keep(self.step(), items)
        self.store.add(items)

    @precondition(lambda self: self.now.objects)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        ids = self.pick(data)
        state = self.step()
        for key in ids:
            del state.objects[key]
        self.store.delete(ids)

    @precondition(lambda self: self.now.objects)
    @rule(data=st.data())
    def reject(self, data: st.DataObject) -> None:
        ids = self.pick(data)
        state = self.step()
        for key in ids:
            del state.objects[key]
        state.rejected.update(ids)
        self.store.reject(ids)

    @precondition(lambda self: self.now.objects)
    @rule(
        data=st.data(), fresh=st.lists(objects(), min_size=1, max_size=2, unique_by=lambda o: o.id)
    )
    def update(self, data: st.DataObject, fresh: list[SlideObject]) -> None:
        ids = self.pick(data)
        parts = data.draw(st.sampled_from(["class", "geometry", "review", "all"]))
        items = []
        for i, key in enumerate(ids):
            self.clock += 1
            old, new = self.now.objects[key], fresh[i % len(fresh)]
            if parts == "class":
                new = replace(old, class_name=new.class_name)
            elif parts == "geometry":
                new = replace(old, geometry=new.geometry)
            elif parts == "review":
                new = replace(old, review=Review("accepted", "Ada", f"2030-{self.clock:06d}"))
            items.append(replace(new, id=key, modified=f"2030-{self.clock:06d}"))
        self.keep(self.step(), items)
        self.store.update(items)

    @precondition(lambda self: self.now.objects)
    @rule(data=st.data(), items=st.lists(objects(), max_size=2, unique_by=lambda o: o.id))
    def replace(self, data: st.DataObject, items: list[SlideObject]) -> None:
        ids = self.pick(data)
        items = [item for item in items if item.id not in self.now.objects]
        items += [replace(self.now.objects[ids[0]], name="again")][: data.draw(st.integers(0, 1))]
        state = self.step()
        for key in ids:
            del state.objects[key]
        self.keep(state, items)
        self.store.replace(ids, items, "Replace")

    @rule(name=NAMES, colour=st.tuples(*[st.integers(0, 255)] * 3))
    def put_class(self, name: str, colour: tuple[int, int, int]) -> None:
        if {c.name: c.colour for c in self.store.classes()}.get(name) != colour:
            self.step().classes[name] = colour
        self.store.put_class(ObjectClass(name, colour))

    @precondition(lambda self: self.now.classes)
    @rule(data=st.data(), new=st.sampled_from(["X", "Y"]), colour=st.just((1, 2, 3)))
    def rename_class(self, data: st.DataObject, new: str, colour: tuple[int, int, int]) -> None:
        old = data.draw(st.sampled_from(sorted(self.now.classes)))
        if new in self.now.classes:
            return
        state = self.step()
        state.classes = {new if k == old else k: v for k, v in state.classes.items()}
        state.classes[new] = colour
        for key, item in state.objects.items():
            if item.class_name == old:
                state.objects[key] = replace(item, class_name=new)
        self.store.put_class(ObjectClass(new, colour), old_name=old)

    @precondition(lambda self: self.now.classes)
    @rule(data=st.data())
    def delete_class(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.now.classes)))
        state = self.step()
        del state.classes[name]
        for key, item in state.objects.items():
            if item.class_name == name:
                state.objects[key] = replace(item, class_name=None)
        self.store.delete_class(name)

    @rule(times=st.integers(1, 3))
    def undo(self, times: int) -> None:
        for _ in range(times):
            assert (self.store.undo() is not None) == (self.at > 0)
            self.at = max(self.at - 1, 0)

    @rule(times=st.integers(1, 3))
    def redo(self, times: int) -> None:
        for _ in range(times):
            assert (self.store.redo() is not None) == (self.at < len(self.line) - 1)
            self.at = min(self.at + 1, len(self.line) - 1)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = ObjectStore.open(self.path)

    @invariant()
    def equal(self) -> None:
        now = self.now
        found = {item.id: item for item in self.store.iterate()}
        assert found == now.objects
        gone = now.rejected - now.objects.keys()
        assert {one.object.id for one in self.store.rejected()} == gone
        said = self.store.review_counts()
        assert said["rejected"] == len(gone)
        assert said["accepted"] == sum(o.review is not None for o in now.objects.values())
        classes = {item.name: item.colour for item in self.store.classes()}
        assert list(classes) == list(now.classes)
        assert all(colour in (None, classes[name]) for name, colour in now.classes.items())
        counts = dict.fromkeys([None, *now.classes], 0)
        for item in now.objects.values():
            counts[item.class_name] += 1
        assert self.store.counts_by_class() == counts
        assert self.store.can_undo == (self.at > 0)
        assert self.store.can_redo == (self.at < len(self.line) - 1)
        assert self.store.integrity_check() == []


Machine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestUndo = Machine.TestCase
