"""Where the store of a slide is kept, and how it is found again."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from napari_histosam.errors import HistosamError, InputError
from napari_histosam.store import ObjectStore, open_store_for, store_path
from napari_histosam.store.places import can_keep_store

if TYPE_CHECKING:
    from pathlib import Path


def nowhere(folder: Path) -> bool:
    return False


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home folder"


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    path = tmp_path / "slides" / "CMU 1.svs"
    path.parent.mkdir()
    path.write_bytes(b"pixels")
    return path


def test_a_store_lies_beside_its_slide(slide: Path, home: Path, make) -> None:
    expected = slide.parent / "CMU 1.svs.histosam.sqlite"
    assert store_path(slide, "id1", home) == expected
    with open_store_for(slide, "id1", "CMU 1.svs", "Ada", home=home) as store:
        assert (store.path, store.note, store.slide_identity) == (expected, None, "id1")
        assert store.author == "Ada"
        store.add([make(0, 0)])
    assert sorted(p.name for p in slide.parent.iterdir()) == [slide.name, expected.name]
    with open_store_for(slide, "id1", "CMU 1.svs", home=home) as store:
        assert len(store) == 1


def test_the_home_folder_is_the_apps_own(slide: Path, histosam_home: Path) -> None:
    with open_store_for(slide, "id1", "x", writable=nowhere) as store:
        assert store.path is not None
        assert store.path.parent == histosam_home / "stores"


def test_a_read_only_folder_keeps_its_store_in_the_home_folder(
    slide: Path, home: Path, make
) -> None:
    with open_store_for(slide, "id1", "CMU 1.svs", home=home, writable=nowhere) as store:
        assert store.path is not None
        assert store.path.parent == home / "stores"
        assert store.path.name.startswith("CMU_1.svs-")
        assert "not beside the slide" in (store.note or "")
        store.add([make(0, 0)])
    assert [p.name for p in slide.parent.iterdir()] == [slide.name]
    # It stays there, also once the folder may be written.
    for writable in (nowhere, can_keep_store):
        with open_store_for(slide, "id1", "CMU 1.svs", home=home, writable=writable) as store:
            assert len(store) == 1


def test_slides_of_one_name_do_not_share_a_store(slide: Path, home: Path) -> None:
    with open_store_for(slide, "id1", "x", home=home, writable=nowhere) as first:
        with open_store_for(slide, "id2", "x", home=home, writable=nowhere) as second:
            assert first.path != second.path


def test_a_store_beside_a_slide_in_a_read_only_folder_is_copied_home(
    slide: Path, home: Path, make
) -> None:
    with open_store_for(slide, "id1", "x", home=home) as store:
        store.add([make(0, 0)])
        beside = store.path
    assert beside is not None
    content = beside.read_bytes()
    shutil.rmtree(home)
    with open_store_for(slide, "id1", "x", home=home, writable=nowhere) as store:
        assert store.path is not None
        assert store.path.parent == home / "stores"
        assert "copied" in (store.note or "")
        assert len(store) == 1
        assert store.undo() is not None
        assert store.integrity_check() == []
    assert beside.read_bytes() == content
    with open_store_for(slide, "id1", "x", home=home, writable=nowhere) as store:
        assert len(store) == 0
    assert [p for p in (home / "stores").iterdir() if p.suffix == ".tmp"] == []


def test_a_moved_slide_finds_its_store(slide: Path, home: Path, tmp_path: Path, make) -> None:
    with open_store_for(slide, "id1", "x", home=home) as store:
        store.add([make(0, 0)])
        old = store.path
    moved = tmp_path / "elsewhere" / "renamed.svs"
    moved.parent.mkdir()
    shutil.move(slide, moved)
    with open_store_for(moved, "id1", "x", home=home) as store:
        assert store.path == old
        assert len(store) == 1
        assert "not beside" in (store.note or "")
    # Moved along with it, the store beside the slide is the one.
    assert old is not None
    shutil.move(old, moved.with_name("renamed.svs.histosam.sqlite"))
    with open_store_for(moved, "id1", "x", home=home) as store:
        assert store.path == moved.with_name("renamed.svs.histosam.sqlite")
        assert (len(store), store.note) == (1, None)
    third = tmp_path / "third.svs"
    shutil.move(moved, third)
    with open_store_for(third, "id1", "x", home=home) as store:
        assert store.path == moved.with_name("renamed.svs.histosam.sqlite")


def test_a_store_that_is_gone_is_told(slide: Path, home: Path) -> None:
    with open_store_for(slide, "id1", "CMU", home=home) as store:
        old = store.path
    assert old is not None
    moved = slide.with_name("moved.svs")
    shutil.move(slide, moved)
    old.unlink()
    with open_store_for(moved, "id1", "CMU", home=home) as store:
        assert store.path == moved.with_name("moved.svs.histosam.sqlite")
        assert str(old) in (store.note or "")


def test_another_slides_store_beside_is_refused(slide: Path, home: Path) -> None:
    open_store_for(slide, "id1", "x", home=home).close()
    with pytest.raises(InputError, match="another slide"):
        open_store_for(slide, "id2", "x", home=home)


def test_a_broken_index_is_no_trouble(slide: Path, home: Path) -> None:
    open_store_for(slide, "id1", "x", home=home).close()
    (entry,) = (home / "stores" / "index").iterdir()
    for text in ("", "[]", "{}", json.dumps({"identity": "id9", "store": "/x"})):
        entry.write_text(text)
        open_store_for(slide, "id1", "x", home=home).close()
        assert json.loads(entry.read_text())["identity"] == "id1"


def test_pictures_without_a_file(home: Path) -> None:
    with open_store_for(None, "", "layer", home=home) as store:
        assert store.path is None
    with open_store_for(None, "hash", "layer", home=home) as store:
        assert store.path is not None
        assert store.path.parent == home / "stores"
    with open_store_for(None, "hash", "layer", home=home) as again:
        assert again.path == store.path


def test_a_home_that_cannot_be_made_is_told(slide: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HistosamError, match="HISTOSAM_HOME"):
        open_store_for(slide, "id1", "x", home=tmp_path / "file")


def test_two_windows_on_one_slide(slide: Path, home: Path) -> None:
    with (
        open_store_for(slide, "id1", "x", home=home) as first,
        open_store_for(slide, "id1", "x", home=home) as second,
    ):
        assert isinstance(first, ObjectStore)
        assert (first.read_only, second.read_only) == (False, True)


def test_can_keep_store_tries(tmp_path: Path) -> None:
    assert can_keep_store(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert not can_keep_store(tmp_path / "absent")
