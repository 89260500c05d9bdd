"""The embedding cache: bounded, shared by threads, unharmed by damage."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_histosam.models.embedding_cache import EmbeddingCache
from napari_histosam.models.protocols import Embedding

if TYPE_CHECKING:
    from pathlib import Path

ONE = 2 * 1000  # bytes of one embedding below, as float16


def make(seed: int = 0) -> Embedding:
    x = np.random.default_rng(seed).normal(0, 1, (10, 100)).astype(np.float32)
    return Embedding({"embedding": x}, (512, 384))


def test_round_trip_in_memory_and_on_disk(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    original = Embedding(
        {**make().arrays, "stain": np.arange(12, dtype=np.uint8).reshape(3, 4)}, (512, 384)
    )
    kept = cache.put("k", original)
    for found in (kept, cache.get("k"), EmbeddingCache(tmp_path).get("k")):
        assert found is not None
        assert found.size == (512, 384)
        assert found.arrays["embedding"].dtype == np.float16
        assert np.abs(found.arrays["embedding"] - original.arrays["embedding"]).max() < 2e-3
        np.testing.assert_array_equal(found.arrays["stain"], original.arrays["stain"])
        assert found.arrays["stain"].dtype == np.uint8
    assert cache.get("other") is None


def test_values_too_large_for_half_stay_float32(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.put("k", Embedding({"x": np.array([1e6, 1.0])}, (1, 1)))
    found = EmbeddingCache(tmp_path).get("k")
    assert found is not None
    assert found.arrays["x"].dtype == np.float32
    np.testing.assert_array_equal(found.arrays["x"], [1e6, 1.0])


def test_memory_and_disk_stay_within_their_limits_oldest_out_first(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, ram_bytes=3 * ONE, disk_bytes=5 * (ONE + 700))
    for i in range(8):
        cache.put(f"k{i}", make(i))
        cache.get("k0")  # in use: must stay
        assert cache.ram_bytes <= 3 * ONE
        assert cache.disk_bytes <= 5 * (ONE + 700)
    assert cache.get("k0") is not None
    assert cache.get("k7") is not None
    on_disk = sum(p.stat().st_size for p in tmp_path.glob("*.npz"))
    assert on_disk == cache.disk_bytes
    assert EmbeddingCache(tmp_path, disk_bytes=0).disk_bytes == 0
    assert not list(tmp_path.glob("*.npz"))


def test_one_that_is_too_large_is_not_kept(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, ram_bytes=ONE - 1, disk_bytes=ONE - 1)
    cache.put("k", make())
    assert cache.ram_bytes == 0
    assert cache.get("k") is None


def test_without_a_folder_it_lives_in_memory() -> None:
    cache = EmbeddingCache(None, ram_bytes=ONE)
    cache.put("a", make())
    assert cache.get("a") is not None
    cache.put("b", make(1))
    assert cache.get("a") is None
    cache.clear()
    assert cache.get("b") is None


@pytest.mark.parametrize("damage", ["cut", "bytes", "empty", "text"])
def test_damaged_files_are_dropped(tmp_path: Path, damage: str) -> None:
    EmbeddingCache(tmp_path).put("k", make())
    (path,) = tmp_path.glob("*.npz")
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "bytes":
        data[len(data) // 2] ^= 255
    else:
        data = bytearray(b"" if damage == "empty" else b"no zip at all")
    path.write_bytes(bytes(data))
    cache = EmbeddingCache(tmp_path)
    assert cache.get("k") is None
    assert not path.exists()
    assert cache.disk_bytes == 0


def test_a_folder_that_cannot_be_written_costs_only_the_disk_level(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    cache = EmbeddingCache(blocked)
    cache.put("k", make())
    assert cache.get("k") is not None


def test_key_depends_on_everything_and_on_nothing_else() -> None:
    window = {"cx": 1.0, "cy": 2.0, "scale": [1.0, 1.0], "size": [4, 4]}
    key = EmbeddingCache.key("slide", "hash", window)
    assert key == EmbeddingCache.key("slide", "hash", dict(reversed(window.items())))
    others = [
        EmbeddingCache.key("slide2", "hash", window),
        EmbeddingCache.key("slide", "hash2", window),
        EmbeddingCache.key("slide", "hash", {**window, "cx": 1.5}),
    ]
    assert len({key, *others}) == 4
    assert len(key) == 64


def test_many_threads(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, ram_bytes=4 * ONE, disk_bytes=8 * (ONE + 700))
    wrong: list[str] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(60):
            i = int(rng.integers(12))
            found = cache.get(f"k{i}")
            if found is None:
                cache.put(f"k{i}", make(i))
            elif np.abs(found.arrays["embedding"] - make(i).arrays["embedding"]).max() > 2e-3:
                wrong.append(f"k{i}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert cache.ram_bytes <= 4 * ONE
    assert cache.disk_bytes == sum(p.stat().st_size for p in tmp_path.glob("*.npz"))


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    old, fresh = tmp_path / ".k.npz.1.tmp", tmp_path / ".k.npz.2.tmp"
    old.write_text("x")
    fresh.write_text("x")
    os.utime(old, (1, 1))
    EmbeddingCache(tmp_path)
    assert not old.exists()
    assert fresh.exists()
