"""What the benchmarks share: tables, processes of their own, and weights for SAM ViT-B."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_histosam.models import ModelRegistry

# A process that crashes is run again, and counted.
TRIES = 3


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; floats without decimals from 10 on."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    digits = 0 if abs(value) >= 10 else 1 if abs(value) >= 1 else 2
    return f"{value:.{digits}f}"


def middle(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of each number over the rounds; of all else the last."""
    numbers = {k for k, v in rounds[0].items() if isinstance(v, (int, float))}
    return {k: median(r[k] for r in rounds) if k in numbers else rounds[-1][k] for k in rounds[0]}


def load() -> str:
    """Return how busy the machine is: the load averages of 1 and 5 minutes over its cores."""
    cores = os.cpu_count() or 1
    try:
        one, five, _ = os.getloadavg()
    except (AttributeError, OSError):  # Windows keeps no load average
        return f"{cores} cores"
    return f"load {one:.1f} (1 min), {five:.1f} (5 min) on {cores} cores"


def in_child(script: str, task: dict[str, Any], home: Path, **environ: str) -> dict[str, Any]:
    """Run ``script --child TASK`` in a process of its own; return what it prints last, as JSON.

    Settings, weights and caches go to ``home``. On a Linux machine without a display the process
    gets a virtual one. ``"crashes"`` in the result counts the times that it crashed before.
    """
    command = [sys.executable, script, "--child", json.dumps(task)]
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        if shutil.which("xvfb-run") is None:
            sys.exit("There is no display: install xvfb, or run this on a desktop.")
        command = ["xvfb-run", "-a", "-s", "-screen 0 1600x1000x24", *command]
    own = {"HISTOSAM_HOME": str(home), "NAPARI_CONFIG": ""}
    for attempt in range(TRIES):
        done = subprocess.run(
            command, env={**os.environ, **own, **environ}, stdout=subprocess.PIPE, text=True
        )
        if done.returncode == 0:
            return {**json.loads(done.stdout.strip().splitlines()[-1]), "crashes": attempt}
        print(f"{task}: ended with {done.returncode}, once more", file=sys.stderr)
    sys.exit(f"{Path(script).name} did not get through in {TRIES} tries.")


def random_vit(registry: ModelRegistry, folder: Path) -> str:
    """Import SAM ViT-B with the same random weights every time; return the model's name.

    The last layers that make masks are zero: noise as a mask would be encoded again in ever
    coarser windows, and its thousand pieces traced, which no trained model asks for.
    """
    import torch
    from segment_anything import sam_model_registry

    torch.manual_seed(0)
    sam = sam_model_registry["vit_b"]()
    with torch.no_grad():
        for mlp in sam.mask_decoder.output_hypernetworks_mlps:
            mlp.layers[-1].weight.zero_()
            mlp.layers[-1].bias.zero_()
    path = folder / "random_vit_b.pth"
    torch.save(sam.state_dict(), path)
    name = registry.import_file(path).name
    path.unlink()
    return name
