"""The tables of a store file, and the steps that bring older files up to date."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

APPLICATION_ID: Final = 0x48534F53  # "HSOS": tells our files from other SQLite files

_LIGHT_1: Final = (
    "id",
    "class",
    "type",
    "name",
    "locked",
    "source",
    "score",
    "area",
    "cx",
    "cy",
    "x0",
    "y0",
    "x1",
    "y1",
    "created",
    "modified",
)
LIGHT: Final = (*_LIGHT_1, "review", "reviewer", "reviewed")
"""Columns of ``objects``: what the object table, the counts and the raster need."""

HEAVY: Final = ("geometry", "provenance", "info")
"""Columns of ``bodies``; kept apart so that the light table stays small and quick to scan."""

# How an edit is kept. `edits` is the line of undoable steps; `meta.cursor` is the last one in
# force. A row of `deltas` holds the version of an object that is *not* in force: nothing for an
# added object while its edit is done, the whole object for a removed one, the earlier version for
# a changed one (a heavy column is NULL where it did not change). Undo and redo swap the two.
# `class_deltas` does the same for classes.
_VERSION_1: Final = f"""
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE settings(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE classes(
  number INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  colour INTEGER NOT NULL,
  position INTEGER NOT NULL
);
CREATE TABLE tally(
  class INTEGER NOT NULL,
  source TEXT NOT NULL,
  count INTEGER NOT NULL,
  PRIMARY KEY(class, source)
) WITHOUT ROWID;

CREATE TABLE objects(
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  class INTEGER NOT NULL REFERENCES classes(number) DEFERRABLE INITIALLY DEFERRED,
  type TEXT NOT NULL,
  name TEXT,
  locked INTEGER NOT NULL,
  source TEXT NOT NULL,
  score REAL,
  area REAL NOT NULL,
  cx REAL NOT NULL,
  cy REAL NOT NULL,
  x0 REAL NOT NULL,
  y0 REAL NOT NULL,
  x1 REAL NOT NULL,
  y1 REAL NOT NULL,
  created TEXT NOT NULL,
  modified TEXT NOT NULL
);
CREATE INDEX objects_class ON objects(class, number);
CREATE INDEX objects_source ON objects(source, number);
CREATE INDEX objects_area ON objects(area, number);
CREATE INDEX objects_score ON objects(ifnull(score, -1), number);
CREATE INDEX objects_modified ON objects(modified, number);
CREATE INDEX objects_name ON objects(ifnull(name, ''), number);
CREATE TABLE bodies(
  number INTEGER PRIMARY KEY,
  geometry BLOB NOT NULL,
  provenance TEXT NOT NULL,
  info TEXT NOT NULL
);
CREATE VIRTUAL TABLE boxes USING rtree(number, x0, x1, y0, y1);

CREATE TRIGGER objects_added AFTER INSERT ON objects BEGIN
  INSERT INTO tally VALUES(new.class, new.source, 1)
    ON CONFLICT(class, source) DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER objects_removed AFTER DELETE ON objects BEGIN
  UPDATE tally SET count = count - 1 WHERE class = old.class AND source = old.source;
END;
CREATE TRIGGER objects_sorted AFTER UPDATE OF class, source ON objects
WHEN old.class <> new.class OR old.source <> new.source BEGIN
  UPDATE tally SET count = count - 1 WHERE class = old.class AND source = old.source;
  INSERT INTO tally VALUES(new.class, new.source, 1)
    ON CONFLICT(class, source) DO UPDATE SET count = count + 1;
END;

CREATE TABLE edits(
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  label TEXT NOT NULL,
  author TEXT NOT NULL,
  time TEXT NOT NULL
);
CREATE TABLE deltas(
  row INTEGER PRIMARY KEY,
  edit INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  number INTEGER NOT NULL,
  {", ".join(_LIGHT_1)},
  {", ".join(HEAVY)}
);
CREATE INDEX deltas_edit ON deltas(edit, kind, number);
CREATE INDEX deltas_number ON deltas(number, edit);
CREATE TABLE class_deltas(
  row INTEGER PRIMARY KEY,
  edit INTEGER NOT NULL,
  number INTEGER NOT NULL,
  name TEXT,
  colour INTEGER,
  position INTEGER
);
CREATE INDEX class_deltas_edit ON class_deltas(edit);

INSERT INTO classes VALUES(0, '', 0, 0);
INSERT INTO meta VALUES('cursor', 0);
"""

# Reviews: what was said of an object, by whom, when; and which steps rejected what they removed,
# so that the removed versions in `deltas` are known as a model's mistakes.
_VERSION_2: Final = """
ALTER TABLE objects ADD COLUMN review TEXT;
ALTER TABLE objects ADD COLUMN reviewer TEXT;
ALTER TABLE objects ADD COLUMN reviewed TEXT;
ALTER TABLE deltas ADD COLUMN review TEXT;
ALTER TABLE deltas ADD COLUMN reviewer TEXT;
ALTER TABLE deltas ADD COLUMN reviewed TEXT;
ALTER TABLE edits ADD COLUMN rejects INTEGER NOT NULL DEFAULT 0;
CREATE INDEX objects_review ON objects(review);
CREATE INDEX edits_rejects ON edits(number) WHERE rejects = 1;
"""

# Runs of a model over many tiles, and which tiles are done: an object and the mark of its tile come
# in one transaction. `step` is the one edit that holds all objects of a run; `classes` maps their
# names to numbers as they were when it began.
_VERSION_3: Final = """
CREATE TABLE runs(
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  key TEXT NOT NULL,
  label TEXT NOT NULL,
  about TEXT NOT NULL,
  step INTEGER,
  classes TEXT NOT NULL DEFAULT '{}',
  started TEXT NOT NULL,
  ended TEXT
);
CREATE INDEX runs_key ON runs(key, number);
CREATE TABLE run_tiles(
  run INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE,
  tile INTEGER NOT NULL,
  counts TEXT NOT NULL,
  PRIMARY KEY(run, tile)
) WITHOUT ROWID;
"""

# Labels of whole patches, each known by its rectangle. `patch_deltas` holds, as `class_deltas`
# does, the versions that are not in force: no label where there was, or will be, none.
_VERSION_4: Final = """
CREATE TABLE patches(
  width REAL NOT NULL,
  height REAL NOT NULL,
  x REAL NOT NULL,
  y REAL NOT NULL,
  label TEXT NOT NULL,
  author TEXT NOT NULL,
  time TEXT NOT NULL,
  PRIMARY KEY(width, height, x, y)
) WITHOUT ROWID;
CREATE TABLE patch_deltas(
  edit INTEGER NOT NULL,
  width REAL NOT NULL,
  height REAL NOT NULL,
  x REAL NOT NULL,
  y REAL NOT NULL,
  label TEXT,
  author TEXT,
  time TEXT,
  PRIMARY KEY(edit, width, height, x, y)
) WITHOUT ROWID;
"""

STEPS: Sequence[str] = (_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4)
"""``STEPS[v]`` brings a file of version ``v`` to ``v + 1``; version 0 is an empty file."""


def statements(script: str) -> list[str]:
    """Split an SQL script at the semicolons that end a statement (not those inside a trigger)."""
    found: list[str] = []
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            found.append(pending.strip())
            pending = ""
    if pending.strip():
        raise ValueError(f"the script ends inside a statement: {pending.strip()[:60]!r}")
    return found


def version(con: sqlite3.Connection) -> int:
    """Return the version of the schema in the file; 0 for an empty one."""
    return int(con.execute("PRAGMA user_version").fetchone()[0])


def check_ours(con: sqlite3.Connection, where: str, steps: Sequence[str] = STEPS) -> None:
    """Raise `InputError` if the file is another program's, or from a newer version of this one."""
    empty = con.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    owner = int(con.execute("PRAGMA application_id").fetchone()[0])
    if owner != APPLICATION_ID and not empty:
        raise InputError(
            f"{where} is a SQLite file of another program, not a store of objects; "
            "choose another file or move this one away."
        )
    if version(con) > len(steps):
        raise InputError(
            f"{where} was written by a newer version of napari-histosam (format {version(con)}, "
            f"this version knows {len(steps)}); update napari-histosam to open it."
        )


def migrate(con: sqlite3.Connection, steps: Sequence[str] = STEPS) -> bool:
    """Bring the open file to the newest version in one transaction; tell whether it was empty.

    SQLite's table changes and both header numbers are transactional, so that a crash or an error
    leaves the file as it was.
    """
    at = version(con)
    if at == len(steps):
        return False
    con.execute("BEGIN EXCLUSIVE")
    try:
        for script in steps[at:]:
            for statement in statements(script):
                con.execute(statement)
        con.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        con.execute(f"PRAGMA user_version = {len(steps)}")
        con.execute("COMMIT")
    except BaseException:
        if con.in_transaction:
            con.execute("ROLLBACK")
        raise
    return at == 0
