"""Full disks, broken and foreign files, old and new versions: one sentence, and nothing is lost."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from napari_histosam.errors import HistosamError, InputError
from napari_histosam.store import ObjectStore, schema

if TYPE_CHECKING:
    from collections.abc import Iterator


def one_sentence(error: pytest.ExceptionInfo[HistosamError]) -> str:
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert "Error" not in text
    return text


@pytest.fixture
def path(tmp_path: Path, make) -> Path:
    path = tmp_path / "a.sqlite"
    with ObjectStore.open(path) as store:
        store.add([make(i, 0) for i in range(100)])
    return path


def test_a_full_disk_keeps_what_was_there(path: Path, make) -> None:
    with ObjectStore.open(path) as store:
        before = list(store.iterate())
        pages = store._db._main.execute("PRAGMA page_count").fetchone()[0]
        store._db._main.execute(f"PRAGMA max_page_count = {pages + 5}")
        kept = 0

        def fill() -> None:
            nonlocal kept
            while kept < 1000:
                store.add([make(i, i) for i in range(20)], f"{kept}")
                kept += 1

        with pytest.raises(HistosamError) as error:
            fill()
        assert "disk is full" in one_sentence(error)
        assert not isinstance(error.value, InputError)
        assert len(store) == 100 + 20 * kept
        assert list(store.iterate())[:100] == before
        assert store.integrity_check() == []
        store._db._main.execute("PRAGMA max_page_count = 1000000")
        store.add([make(0, 0)])
        for _ in range(1 + kept + 1):
            assert store.undo() is not None
        assert store.undo() is None


@pytest.mark.parametrize("content", [b"hello", b"hello world, this is a text file\n" * 400])
def test_another_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        ObjectStore.open(path)
    assert "not a SQLite file" in one_sentence(error)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as con:
        con.execute("CREATE TABLE mine(x)")
        con.commit()
    content = path.read_bytes()
    with pytest.raises(InputError) as error:
        ObjectStore.open(path)
    assert "another program" in one_sentence(error)
    assert path.read_bytes() == content


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    path.touch()
    with ObjectStore.open(path) as store:
        assert store.classes()


def test_a_folder_and_an_absent_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent" / "a.sqlite"):
        with pytest.raises(InputError) as error:
            ObjectStore.open(path)
        one_sentence(error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["start", "all"])
def test_a_damaged_file_is_told_and_left_alone(path: Path, where: str) -> None:
    content = bytearray(path.read_bytes())
    page = 4096
    if where == "start":
        content[100:page] = b"\xff" * (page - 100)
    else:
        content[page:] = b"\xff" * (len(content) - page)
    path.write_bytes(content)
    with pytest.raises(InputError) as error, ObjectStore.open(path) as store:
        list(store.iterate())
    assert "damaged" in one_sentence(error)
    assert path.read_bytes() == bytes(content)


def test_a_truncated_file_is_told(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError) as error, ObjectStore.open(path) as store:
        list(store.iterate())
    assert "damaged" in one_sentence(error)


def test_the_integrity_check_sees_tables_that_disagree(path: Path) -> None:
    with closing(sqlite3.connect(path)) as con:
        con.execute("DELETE FROM bodies WHERE number = 1")
        con.execute("UPDATE tally SET count = 7")
        con.commit()
    with ObjectStore.open(path) as store:
        wrong = " ".join(store.integrity_check())
    assert "1 objects do not agree with bodies" in wrong
    assert "tally" in wrong


def test_another_slides_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    ObjectStore.open(path, slide_identity="s1", slide_name="one.svs").close()
    with pytest.raises(InputError, match=r"another slide \(one.svs\)") as error:
        ObjectStore.open(path, slide_identity="s2")
    one_sentence(error)
    ObjectStore.open(path, slide_identity="s1").close()


def test_a_newer_version_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as con:
        con.execute(f"PRAGMA user_version = {len(schema.STEPS) + 1}")
    content = path.read_bytes()
    with pytest.raises(InputError) as error:
        ObjectStore.open(path)
    assert "newer version" in one_sentence(error)
    assert path.read_bytes() == content


NEXT = """
ALTER TABLE settings ADD COLUMN author TEXT;
CREATE TRIGGER settings_kept AFTER INSERT ON settings BEGIN
  UPDATE settings SET author = 'x'; SELECT 1;
END;
UPDATE classes SET colour = 1 WHERE name = 'Tumor';
"""


def test_an_older_version_is_brought_up_to_date(path: Path, monkeypatch) -> None:
    with ObjectStore.open(path) as store:
        before = list(store.iterate())
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, NEXT))
    monkeypatch.setattr(schema.migrate, "__defaults__", (schema.STEPS,))
    monkeypatch.setattr(schema.check_ours, "__defaults__", (schema.STEPS,))
    with ObjectStore.open(path) as store:
        assert schema.version(store._db._main) == len(schema.STEPS)
        assert list(store.iterate()) == before
        assert store.classes()[0].colour == (0, 0, 1)
        assert store.undo() is not None
        store.set_setting("a", 1)
        with store._db.read() as con:
            assert con.execute("SELECT author FROM settings").fetchone()[0] == "x"


def test_a_migration_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch) -> None:
    broken = NEXT + "UPDATE absent SET x = 1;"
    for function in (schema.migrate, schema.check_ours):
        monkeypatch.setattr(function, "__defaults__", ((*schema.STEPS, broken),))
    with pytest.raises(sqlite3.OperationalError, match="absent"):
        ObjectStore.open(path)
    monkeypatch.undo()
    with ObjectStore.open(path) as store:
        assert schema.version(store._db._main) == len(schema.STEPS)
        assert store.classes()[0].colour == (200, 0, 0)
        assert len(store) == 100


def test_scripts_are_split_at_the_ends_of_statements() -> None:
    assert len(schema.statements(NEXT)) == 3
    with pytest.raises(ValueError, match="ends inside"):
        schema.statements("CREATE TABLE a(x);\nCREATE TRIGGER t AFTER INSERT ON a BEGIN")


@contextmanager
def nobody() -> Iterator[Path]:
    """A folder, and no special rights: the super user may write everywhere."""
    if sys.platform == "win32":
        pytest.skip("folders are not made read-only this way on Windows")
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o777)
        if root:
            os.chown(place, 65534, 65534)
            os.seteuid(65534)
        try:
            yield place
        finally:
            if root:
                os.seteuid(0)
            place.chmod(0o777)


def test_a_store_in_a_read_only_folder_is_looked_at(make) -> None:
    with nobody() as place:
        path = place / "a.sqlite"
        with ObjectStore.open(path) as store:
            store.add([make(0, 0)])
        place.chmod(0o555)
        with ObjectStore.open(path) as store:
            assert "read-only" in (store.read_only_reason or "")
            assert len(list(store.iterate())) == 1
            assert store.undo_label == "Add"
        with pytest.raises(InputError) as error:
            ObjectStore.open(place / "new.sqlite")
        one_sentence(error)


def test_a_write_protected_store_is_looked_at(make) -> None:
    with nobody() as place:
        path = place / "a.sqlite"
        with ObjectStore.open(path) as store:
            store.add([make(0, 0)])
        path.chmod(0o444)
        with ObjectStore.open(path) as store:
            assert "write-protected" in (store.read_only_reason or "")
            assert len(store) == 1
            path.chmod(0o666)
            assert store.become_writer()
            store.add([make(0, 0)])


def test_a_store_that_may_not_be_read_is_told(make) -> None:
    with nobody() as place:
        path = place / "a.sqlite"
        ObjectStore.open(path).close()
        path.chmod(0o000)
        with pytest.raises(HistosamError) as error:
            ObjectStore.open(path)
        one_sentence(error)
