"""The folder: foreign files are safe, old data sets whole, broken builds leave nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from napari_histosam.errors import InputError
from napari_histosam.train.dataset.folder import Folder, check_out, opened, sha256

NAME = "images/0123456789_000000_000000_abcdef01.png"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path, {})


def test_out_may_be_new_empty_or_a_data_set(tmp_path: Path) -> None:
    check_out(tmp_path / "new" / "deep")
    check_out(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / NAME).write_bytes(b"")  # of a first build that was killed
    check_out(tmp_path)
    (tmp_path / "thesis.docx").write_text("")
    with pytest.raises(InputError, match=r"holds other files \(thesis\.docx\)"):
        check_out(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    check_out(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        check_out(tmp_path / "thesis.docx")


def test_two_builds_in_one_folder_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "a" / "set"
    with opened(out), pytest.raises(InputError, match="Another build"), opened(out):
        pass
    assert list(tmp_path.iterdir()) == []  # nothing was written: no folder stays


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write"), opened(tmp_path / "file" / "set"):
        pass


def test_files_that_are_right_are_not_made_again(tmp_path: Path) -> None:
    Folder(tmp_path, {}).put(NAME, lambda: b"one")
    again = Folder(tmp_path, {NAME: sha256(b"one")})
    again.put(NAME, lambda: pytest.fail("made again"))
    assert again.hashes == {NAME: sha256(b"one")}
    (tmp_path / NAME).write_bytes(b"damaged")
    assert not again.keep(NAME)
    again.put(NAME, lambda: b"one")
    assert (tmp_path / NAME).read_bytes() == b"one"
    again.undo()  # what had been there before stays there
    assert (tmp_path / NAME).exists()


def test_sweeping_takes_only_what_a_builder_wrote(folder: Folder) -> None:
    folder.put(NAME, lambda: b"one")
    kept = NAME.replace("abcdef01", "abcdef02")
    folder.put(kept, lambda: b"two")
    (folder.out / "images" / "mine.png").write_bytes(b"")
    (folder.out / "images" / ".x.png.0123abcd.tmp").write_bytes(b"")
    del folder.hashes[NAME]
    folder.sweep()
    assert {path.name for path in (folder.out / "images").iterdir()} == {
        "mine.png",
        Path(kept).name,
    }


def test_undo_removes_what_was_written_until_it_is_in_force(folder: Folder) -> None:
    folder.put(NAME, lambda: b"one")
    folder.undo()
    assert not (folder.out / NAME).exists()
    folder.put(NAME, lambda: b"one")
    folder.exchange({"index.json": b"{}"})
    folder.undo()
    assert (folder.out / NAME).exists()


def test_documents_are_exchanged_all_or_none(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.exchange({"index.json": b"old", "splits.json": b"old"})
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "splits" in path.name:
            raise OSError(errno.ENOSPC, "full")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="the disk is full"):
        folder.exchange({"index.json": b"new", "splits.json": b"new"})
    assert {path.name: path.read_bytes() for path in folder.out.iterdir()} == {
        "index.json": b"old",
        "splits.json": b"old",
    }


def test_documents_that_were_exchanged_before_an_error_come_back(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.exchange({"index.json": b"old", "splits.json": b"old"})
    replace = os.replace

    def held(source: Path, target: Path) -> None:
        if target.name == "manifest.json":
            raise PermissionError(errno.EACCES, "another program has it")
        replace(source, target)

    monkeypatch.setattr(os, "replace", held)
    new = dict.fromkeys(("index.json", "splits.json", "coco.json", "manifest.json"), b"new")
    with pytest.raises(InputError, match="another program holds it"):
        folder.exchange(new)
    assert {path.name: path.read_bytes() for path in folder.out.iterdir()} == {
        "index.json": b"old",
        "splits.json": b"old",
    }
