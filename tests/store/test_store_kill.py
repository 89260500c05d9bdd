"""A process that is killed at any moment loses nothing that it had been told is kept."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

from napari_histosam.store import ObjectStore

KILLS = 50
Objects = dict[str, str | None]


class Line:
    """The reference: every state so far and where in it we are."""

    def __init__(self) -> None:
        self.states: list[Objects] = [{}]
        self.at = 0

    def after(self, step: dict) -> tuple[list[Objects], int]:
        now = dict(self.states[self.at])
        if step["do"] in ("undo", "redo"):
            at = self.at + (1 if step["do"] == "redo" else -1)
            return self.states, min(max(at, 0), len(self.states) - 1)
        if step["do"] == "add":
            now.update(step["items"])
        elif step["do"] == "edit":
            now[step["id"]] = step["name"]
        else:
            for key in step["ids"]:
                del now[key]
        return [*self.states[: self.at + 1], now], self.at + 1

    def go(self, step: dict) -> None:
        self.states, self.at = self.after(step)


def start(path: Path, seed: int, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("kill_child.py")), str(path), str(seed)],
            stdin=subprocess.PIPE,
            stdout=out,
        )


def test_every_acknowledged_edit_survives_50_kills(tmp_path: Path) -> None:
    path = tmp_path / "slide.sqlite"
    draw = random.Random()  # the moments cannot be repeated anyway
    line, done, in_flight, logs = Line(), 0, 0, [tmp_path / f"{i}.log" for i in range(KILLS + 1)]
    child = start(path, 0, logs[0])
    following = None
    try:
        for i in range(KILLS):
            # The next process loads its libraries while this one works.
            following = start(path, i + 1, logs[i + 1])
            while not logs[i].stat().st_size:
                assert child.poll() is None
                time.sleep(0.005)
            assert child.stdin is not None
            child.stdin.write(b"go\n")
            child.stdin.flush()
            time.sleep(draw.uniform(0, 0.25))
            assert child.poll() is None, "the child ended by itself"
            child.kill()
            child.wait()
            child.stdin.close()

            pending = None
            for text in logs[i].read_text("utf-8").splitlines()[1:]:
                if text:
                    pending = json.loads(text)
                elif pending is not None:
                    line.go(pending)
                    done, pending = done + 1, None
            with ObjectStore.open(path) as store:
                assert not store.read_only
                assert store.integrity_check() == []
                found = {item.id: item.name or item.class_name for item in store.iterate()}
                undo, redo = store.can_undo, store.can_redo
            if pending is not None:
                # The step in flight may have been kept or not, as a whole.
                in_flight += 1
                states, at = line.after(pending)
                if found != line.states[line.at] or (undo, redo) != _can(line.states, line.at):
                    line.states, line.at = states, at
            assert found == line.states[line.at]
            assert (undo, redo) == _can(line.states, line.at)
            child, following = following, None
    finally:
        for process in (child, following):
            if process is not None:
                process.kill()
                process.wait()
                if process.stdin is not None:
                    process.stdin.close()
    assert done > KILLS, f"only {done} edits were made, the kills came too early to tell"
    assert in_flight > KILLS // 4, f"only {in_flight} kills fell into an edit"
    # The whole line is still there: back to the empty slide.
    with ObjectStore.open(path) as store:
        for at in range(line.at - 1, -1, -1):
            assert store.undo() is not None
            assert len(store) == len(line.states[at])
        assert store.undo() is None


def _can(states: list[Objects], at: int) -> tuple[bool, bool]:
    return at > 0, at < len(states) - 1
