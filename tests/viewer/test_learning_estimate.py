"""What a training will take: measured once, kept, told in a sentence; what did not work, too."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from napari_histosam.errors import Cancelled
from napari_histosam.home import home
from napari_histosam.models import ModelRegistry
from napari_histosam.session import DEFAULT_MODEL
from napari_histosam.train.finetune.costs import Costs
from napari_histosam.viewer.learning import estimate as estimates
from napari_histosam.viewer.learning import ledger, measuring
from napari_histosam.viewer.learning.estimate import estimate, work_ahead
from napari_histosam.viewer.learning.measuring import Trouble, costs_of
from napari_histosam.viewer.learning.sources import Teaching

COSTS = Costs("cpu", 5.0, 0.2, 0.1, 0.02, 0.03, 0.04, 0.3, 1.2)


def nothing():
    pass


def saying(text: str) -> list[str]:
    """A command that runs a line of Python in a process of its own."""
    return [sys.executable, "-c", text]


def measured(text: str, method: str = "decoder", step=nothing):
    return costs_of(ModelRegistry(), DEFAULT_MODEL, method, 1, step, saying(text))


def test_what_was_measured_is_not_measured_again():
    printed = json.dumps({"costs": COSTS.record()})
    assert measured(f"print({printed!r})") == COSTS
    assert measured("raise SystemExit(1)") == COSTS
    # Another method, and other weights of the same name, are measured.
    assert isinstance(measured("raise SystemExit(1)", "full"), Trouble)
    weights = home() / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    (path,) = ModelRegistry().files(DEFAULT_MODEL)
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    (weights / path.name).write_bytes(changed)
    assert ModelRegistry().files(DEFAULT_MODEL) == [weights / path.name]
    assert isinstance(measured("raise SystemExit(1)"), Trouble)


def test_damaged_records_are_measured_anew():
    key = ledger.key_of(ModelRegistry(), DEFAULT_MODEL, "decoder", 1)
    ledger.keep(key, COSTS)
    assert ledger.recall(key) == COSTS
    (file,) = (home() / "costs").iterdir()
    for text in ("", "[]", '{"device": "cpu"}'):
        file.write_text(text)
        assert ledger.recall(key) is None


@pytest.mark.parametrize(
    ("text", "memory", "words"),
    [
        ("raise SystemExit(1)", False, "status 1"),
        ("print('nonsense')", False, "no figures"),
        ("import sys; sys.exit('histosam: the weights are damaged.')", False, "weights are damag"),
        ("import sys; sys.exit('histosam: There is not enough memory on cpu')", True, "not fit"),
        pytest.param(
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            True,
            "close other programs",
            marks=pytest.mark.skipif(os.name == "nt", reason="no such signal"),
        ),
    ],
)
def test_what_did_not_work_is_said_in_one_sentence(text, memory, words):
    found = measured(text, "full")
    assert isinstance(found, Trouble)
    assert found.memory == memory
    assert words in found.text
    assert "\n" not in found.text
    assert not (home() / "costs").exists()


def test_a_trial_ends_before_memory_does(monkeypatch):
    monkeypatch.setattr(measuring.psutil, "virtual_memory", lambda: SimpleNamespace(available=1e8))
    found = measured("import time; time.sleep(60)", "full")
    assert found.memory
    assert "0.1 GB are free" in found.text


def test_a_trial_that_nobody_waits_for_is_ended():
    started = []

    def stop():
        started.append(True)
        raise Cancelled("another method was chosen")

    with pytest.raises(Cancelled):
        measured("import time; time.sleep(60)", step=stop)
    assert started


def test_the_estimate_in_words(bench, monkeypatch):
    card = ModelRegistry().get(DEFAULT_MODEL)
    chosen = [Teaching(n, n, bench.root, {"a": 20}, windows=3) for n in ("a.svs", "b.svs")]
    few, many = (estimate(COSTS, work_ahead(card, chosen, epochs)) for epochs in (10, 20))
    assert many.seconds > few.seconds > few.comparison > 0
    monkeypatch.setattr(estimates.psutil, "virtual_memory", lambda: SimpleNamespace(available=2e9))
    assert few.text.startswith("About ")
    assert "1.2 GB of memory (measured on this machine)" in few.text
    assert few.warning == ""
    large = estimate(replace(COSTS, gigabytes=3.0, source="run"), work_ahead(card, chosen, 10))
    assert "as your last training" in large.text
    assert "Only 2.0 GB" in large.warning
    gpu = replace(large, device="cuda")
    assert "GPU memory" in gpu.text
    assert gpu.warning == ""
