"""A process that edits a store until it is killed; run by test_store_kill.py, no test itself.

It writes one JSON line ahead of each call (what it will do) and an empty line after it returned.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import shapely

from napari_histosam.records import SlideObject
from napari_histosam.store.store import ObjectStore


def main(path: str, seed: int) -> None:
    draw = random.Random(seed)
    sys.stdout.write("warm\n")
    sys.stdout.flush()
    sys.stdin.readline()
    with ObjectStore.open(Path(path)) as store:
        ids = store.ids()
        serial = 0

        def say(text: str) -> None:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

        while True:
            serial += 1
            kind = draw.choice(["add", "add", "add", "many", "edit", "delete", "undo", "redo"])
            if kind in ("add", "many"):
                n = 1 if kind == "add" else 200
                items = [
                    SlideObject(
                        shapely.Point(draw.uniform(0, 1e5), draw.uniform(0, 1e5)).buffer(20),
                        id=f"{seed}-{serial}-{i}",
                        class_name=draw.choice(["Tumor", "Stroma", None, f"class {serial % 3}"]),
                    )
                    for i in range(n)
                ]
                say(json.dumps({"do": "add", "items": [[i.id, i.class_name] for i in items]}))
                ids += store.add(items)
            elif kind == "edit" and ids:
                item = replace(
                    store.get(draw.choice(ids)), class_name="edited", name=f"{seed}-{serial}"
                )
                say(json.dumps({"do": "edit", "id": item.id, "name": item.name}))
                store.update([item])
            elif kind == "delete" and ids:
                some = draw.sample(ids, min(len(ids), draw.choice([1, 1, 50])))
                say(json.dumps({"do": "delete", "ids": some}))
                store.delete(some)
            else:
                say(json.dumps({"do": "redo" if kind == "redo" else "undo"}))
                store.redo() if kind == "redo" else store.undo()
            say("")
            if kind != "add":
                ids = store.ids()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
