"""What all tests share: a private home folder, the sample slide, the shared data, fixed seeds."""

from __future__ import annotations

import faulthandler
import os
import random
import sys
from pathlib import Path

import hypothesis
import pytest

# napari reads this once, on import: no test may read or change the developer's own settings.
os.environ["NAPARI_CONFIG"] = ""

# No deadline, for a loaded machine is no bug; the same examples in every run, and none kept.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("ci")

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
SEED = 20240229


def pytest_configure(config: pytest.Config) -> None:
    # A crash inside Qt or OpenGL should say in which test it was.
    if not faulthandler.is_enabled():
        faulthandler.enable()


@pytest.fixture(autouse=True)
def histosam_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights, caches and settings go to a folder of this test alone."""
    home = tmp_path / "histosam_home"
    monkeypatch.setenv("HISTOSAM_HOME", str(home))
    return home


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Restart the global generators, those of libraries that are loaded anyway."""
    random.seed(SEED)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(SEED)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(SEED)


@pytest.fixture(scope="session")
def sample_slide_path() -> Path:
    """The slide that ships with the package: 2220 x 2967 px at 0.499 µm/px."""
    from napari_histosam.home import shipped

    return shipped("sample_data") / "CMU-1-Small-Region.svs"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real data that may lie beside the checkout; without it the test is skipped."""
    if not SHARED.is_dir():
        pytest.skip("the folder of shared data does not lie beside the checkout")
    return SHARED
