"""A training beside the window: its folder, its process, what is read of it, how it ends."""

from __future__ import annotations

import json

import pytest

from napari_histosam.errors import InputError
from napari_histosam.models import ModelRegistry
from napari_histosam.train.finetune.costs import Costs
from napari_histosam.viewer.learning import ledger
from napari_histosam.viewer.learning.course import Course, courses
from napari_histosam.viewer.learning.follow import Follower, duration
from napari_histosam.viewer.learning.launcher import Launcher
from napari_histosam.viewer.learning.result import card_lines, read_result


def test_from_the_order_to_a_model_that_is_used(bench):
    slides = [bench.field("a.png", 1), bench.field("b.png", 2)]
    key = ledger.key_of(ModelRegistry(), "histosam-small", "decoder", 1)
    ledger.keep(key, Costs("cpu", 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.01))
    course = bench.begin(*slides, comparison=1000.0)
    states, left = [], []

    def done(shown):
        if shown.state not in states:
            states.append(shown.state)
        if shown.left is not None:
            left.append(shown.left)
        return not shown.working

    shown = bench.until(course, done)
    assert shown.state == "finished", shown.message
    assert states == sorted(
        states, key=["starting", "building", "preparing", "training", "comparing", "finished"].index
    )
    assert [row["epoch"] for row in shown.epochs] == [0, 1, 2]
    assert shown.fraction == 1.0
    assert set(shown.dice) == {"Tumor", "Stroma"}
    # The comparison comes after the epochs, so it counts until the end.
    assert left
    assert 900 < min(left) <= max(left)
    # What it took stands in the place of what a trial has shown.
    costs = ledger.recall(key)
    assert costs.source == "run"
    assert costs.gigabytes > 0.1

    result = read_result(course)
    assert [f.title for f in result.figures] == ["1 click", "3 clicks", "Box"]
    assert result.n_counted >= 4
    assert result.n_groups == 1
    assert "1 slide held out" in result.words
    for change in (*result.best, *result.worst):
        assert change.before.is_file()
        assert change.after.is_file()
        assert "→" in change.caption
    card = ModelRegistry().get(result.name)
    assert result.name == "histosam-small-fields"
    assert "Trained from histosam-small (decoder)" in card_lines(card)[0]
    assert courses() == [course]


def test_pause_goes_on_and_comes_to_the_same_end(bench):
    slides = [bench.field("a.png", 1), bench.field("b.png", 2)]
    course = bench.begin(*slides, epochs=60)
    bench.until(course, lambda shown: len(shown.epochs) > 2)
    bench.launcher.pause(course)
    shown = bench.until(course, lambda shown: not shown.working)
    assert shown.state == "paused"
    assert "Resume" in shown.message
    reached = len(shown.epochs)
    # Another window finds it, and has it go on.
    (found,) = courses()
    other = Launcher()
    assert Follower(found, other).look().state == "paused"
    bench.launcher.start(course)
    with pytest.raises(InputError, match="running already"):
        other.start(found)
    bench.until(course, lambda shown: len(shown.epochs) > reached)
    bench.launcher.stop(course)
    shown = bench.until(course, lambda shown: not shown.working)
    assert shown.state == "stopped"
    # Given up is not lost: it goes on when it is asked to.
    reached = len(shown.epochs)
    bench.launcher.start(course)
    bench.until(course, lambda shown: len(shown.epochs) > reached)


def test_what_was_learned_so_far_is_compared_when_it_is_finished_early(bench):
    slides = [bench.field("a.png", 1), bench.field("b.png", 2)]
    course = bench.begin(*slides, epochs=60)
    bench.until(course, lambda shown: any(row["best"] for row in shown.epochs[1:]))
    bench.launcher.finish(course)
    shown = bench.until(course, lambda shown: not shown.working)
    assert shown.state == "finished", shown.message
    assert len(shown.epochs) < 60
    result = read_result(course)
    assert ModelRegistry().get(result.name).trained.figures["best_epoch"] > 0


def test_a_killed_trainer_is_found_out_and_goes_on(bench):
    slides = [bench.field("a.png", 1), bench.field("b.png", 2)]
    course = bench.begin(*slides, epochs=60)
    before = bench.until(course, lambda shown: len(shown.epochs) > 2)
    course.process().kill()
    shown = bench.until(course, lambda shown: not shown.working)
    assert shown.state == "lost"
    assert shown.message.count(". ") == 0
    assert "Resume" in shown.message
    bench.launcher.start(course)
    again = bench.until(course, lambda shown: len(shown.epochs) > len(before.epochs) + 1)

    def figures(rows):
        return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]

    assert figures(again.epochs[: len(before.epochs)]) == figures(before.epochs)


def test_slides_stay_in_their_splits_from_training_to_training(bench):
    slides = [bench.field(f"{name}.png", seed) for seed, name in enumerate("abcd")]

    def splits(course):
        manifest = json.loads((course.data / "manifest.json").read_text())
        return {one["name"]: one["split"] for one in manifest["slides"]}

    def build(*chosen):
        course = bench.begin(*chosen, data=f"set-{len(chosen)}")
        bench.until(course, lambda shown: course.read("dataset"))
        bench.launcher.stop(course)
        bench.until(course, lambda shown: not shown.working)
        return splits(course)

    first = build(*slides[:2])
    assert set(first.values()) == {"train", "val"}
    assert build(*slides).items() >= first.items()


def test_a_training_is_asked_to_finish_only_while_it_learns(bench, monkeypatch):
    course = Course(bench.root / "20260101-120000")
    course.run.mkdir(parents=True)
    launcher, alive = Launcher(), [True]
    monkeypatch.setattr(launcher, "alive", lambda _course: alive[0])
    follower = Follower(course, launcher)

    def stands(stage, **run):
        course.write("course", {"stage": stage, "message": ""})
        (course.run / "run.json").write_text(json.dumps(run))
        return follower.look()

    stands("train", state="running")
    with pytest.raises(InputError, match="Nothing has been learned yet"):
        launcher.finish(course)
    assert not (course.run / "finish").exists()
    stands("train", state="running", step=3)
    launcher.finish(course)
    assert (course.run / "finish").exists()
    assert not (course.run / "stop").exists()
    shown = stands("train", state="running", step=3)
    assert shown.state == "halting"
    assert "best epoch so far" in shown.message
    # The trainer has ended its steps: the rest goes as ever.
    assert stands("train", state="done", step=4).state == "comparing"
    assert stands("finished").state == "finished"
    # Killed meanwhile, it is no pause; and what goes on does not end at once again.
    alive[0] = False
    assert stands("train", state="running", step=3).state == "lost"
    course.halt(None)
    assert not (course.run / "finish").exists()
    assert course.halted == ""


def test_bad_input_is_one_sentence(bench):
    course = bench.begin(bench.root / "nowhere.png", bench.field("b.png", 2))
    shown = bench.until(course, lambda shown: not shown.working)
    assert shown.state == "failed"
    assert "nowhere.png" in shown.message
    assert "\n" not in shown.message


def test_rows_of_a_run_that_went_back_are_read_anew(bench):
    course = Course(bench.root / "20260101-120000")
    course.run.mkdir(parents=True)
    rows = course.run / "progress.jsonl"
    follower = Follower(course, Launcher())

    def write(steps, tail=""):
        lines = [
            json.dumps({"kind": "step", "step": s, "steps": 8, "seconds": s, "loss": 1.0})
            for s in steps
        ]
        fresh = rows.with_suffix(".new")
        fresh.write_text("\n".join(lines) + "\n" + tail)
        fresh.replace(rows)

    write([1, 2, 3], '{"kind": "st')
    assert [r["step"] for r in follower.look().steps] == [1, 2, 3]
    with rows.open("a") as file:
        file.write('ep", "step": 4, "steps": 8, "seconds": 4}\n')
    assert [r["step"] for r in follower.look().steps] == [1, 2, 3, 4]
    write([1, 2])
    assert [r["step"] for r in follower.look().steps] == [1, 2]


@pytest.mark.parametrize(
    ("seconds", "text"), [(3, "5 s"), (44, "45 s"), (125, "2 min"), (8000, "2 h 10 min")]
)
def test_durations_for_people(seconds, text):
    assert duration(seconds) == text
