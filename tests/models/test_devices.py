"""The device is chosen plainly, and memory that runs out is stepped around."""

from __future__ import annotations

import pytest
import torch

from napari_histosam.errors import HistosamError, InputError
from napari_histosam.models.devices import choose_device, is_out_of_memory, with_fallback


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    def make(cuda: int = 0, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Test 9000")
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return make


def test_auto(machine) -> None:
    machine()
    assert choose_device().name == "cpu"
    assert choose_device().message == "No GPU found: running on CPU"
    machine(cuda=1, mps=True)
    assert choose_device().name == "cuda"
    assert "Test 9000" in choose_device().message
    machine(mps=True)
    assert choose_device().name == "mps"


def test_wishes(machine) -> None:
    machine(cuda=2)
    assert choose_device("cuda:1").name == "cuda:1"
    assert choose_device("cpu").name == "cpu"
    for wish in ("cuda:2", "cuda:x", "mps", "cpu:0", "tpu", ""):
        with pytest.raises(InputError):
            choose_device(wish)


def test_what_counts_as_out_of_memory() -> None:
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("x"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_half_the_batch_then_the_cpu(machine) -> None:
    machine(cuda=1)
    tried: list[tuple[str, int]] = []
    said: list[str] = []

    def run(device: str, batch: int) -> str:
        tried.append((device, batch))
        if device != "cpu":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return "done"

    assert with_fallback(run, "cuda", 4, said.append) == ("done", "cpu", 1)
    assert tried == [("cuda", 4), ("cuda", 2), ("cuda", 1), ("cpu", 1)]
    assert len(said) == 3
    assert "on the CPU" in said[-1]


def test_other_errors_pass_and_a_full_computer_is_one_sentence() -> None:
    def broken(device: str, batch: int) -> None:
        raise RuntimeError("shape mismatch")

    def hungry(device: str, batch: int) -> None:
        raise MemoryError

    with pytest.raises(RuntimeError, match="shape mismatch"):
        with_fallback(broken, "cpu", 4)
    with pytest.raises(HistosamError, match="not enough free memory"):
        with_fallback(hungry, "cpu", 2, lambda _: None)
