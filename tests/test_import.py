"""The package imports quickly and keeps the rules of its house that import-linter cannot state."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import napari_histosam

PACKAGE = Path(napari_histosam.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"numpy", "torch", "napari", "qtpy", "PySide6", "scipy", "skimage", "cv2", "dask", "zarr"}
LIMIT_S = 0.2
LINES = 450


def in_new_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def modules_imported(path: Path) -> set[str]:
    """First parts of all absolute imports of a file, those inside functions included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def test_import_is_quick() -> None:
    code = (
        "import time; start = time.perf_counter(); import napari_histosam; "
        "print(time.perf_counter() - start)"
    )
    seconds = min(float(in_new_python(code)) for _ in range(5))
    assert seconds < LIMIT_S


def test_import_loads_nothing_heavy() -> None:
    code = "import sys, json, napari_histosam; print(json.dumps(sorted(sys.modules)))"
    loaded = {name.partition(".")[0] for name in json.loads(in_new_python(code))}
    assert not loaded & HEAVY


def test_public_names_are_listed_and_unknown_ones_refused() -> None:
    assert {"open_slide", "Session", "__version__"} <= set(dir(napari_histosam))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = napari_histosam.no_such_name


@pytest.mark.parametrize("name", ["open_slide", "Session"])
def test_public_names_load_on_first_use_and_without_a_window(name: str) -> None:
    code = (
        f"import sys, napari_histosam; assert callable(napari_histosam.{name}); "
        "print(*{'napari', 'qtpy', 'PySide6'} & set(sys.modules))"
    )
    assert in_new_python(code).split() == []


def test_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert napari_histosam.__version__ == version("napari-histosam")


def test_files_were_found() -> None:
    assert len(FILES) > 10


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_file_says_its_duty_and_stays_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "one sentence at the top says what the file is for"
    assert len(text.splitlines()) <= LINES


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_file_imports_only_what_its_folder_may(path: Path) -> None:
    folder = path.relative_to(PACKAGE).parts[0]
    found = modules_imported(path)
    if folder not in ("models", "train"):
        assert not found & {"torch", "torchvision", "timm", "segment_anything"}
    if folder != "widgets":
        assert not found & {"qtpy", "superqt", "magicgui", "pyqtgraph"}
    if folder not in ("viewer", "widgets"):
        assert "napari" not in found


def test_no_qt_binding_is_named() -> None:
    binding = re.compile(r"\b(PyQt(?!graph)|PySide)\d*", re.IGNORECASE)
    sources = [*FILES, *PACKAGE.rglob("*.yaml")]
    assert [name_of(p) for p in sources if binding.search(p.read_text(encoding="utf-8"))] == []
