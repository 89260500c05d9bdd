"""A heart that beats in Qt's event loop, and what the window benchmarks pan over."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# The synthetic slide.
WIDTH, HEIGHT, MPP = 100_000, 80_000, 0.25
WINDOW = (1400, 900)
BEAT_MS = 2
# A late beat is worth a look at the stack after this.
LATE_S = 0.03


class Heart:
    """Beats every 2 ms while Qt's event loop runs, and knows how late each beat came.

    A late beat means that the loop was busy: with a frame, with ours, or because another thread
    held the interpreter or the processor. Make it on the main thread of a process with a window.

    Parameters
    ----------
    where : bool
        Look at the main thread's stack during late beats (see `stacks`).
    """

    def __init__(self, where: bool = False) -> None:
        import psutil
        from qtpy.QtCore import QEventLoop, Qt, QTimer

        self._process = psutil.Process()
        self._loop = QEventLoop()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(BEAT_MS)
        self._timer.timeout.connect(self._beat)
        self._single = QTimer.singleShot
        self._last = self._weighed = self._end = time.perf_counter()
        self._worst = 0.0
        self._until: Callable[[], bool] | None = None
        self.peak = 0
        self.stacks: Counter[str] = Counter()
        self._watched = False
        if where:
            threading.Thread(target=self._watch, args=[threading.get_ident()], daemon=True).start()

    def live(
        self,
        seconds: float,
        do: Callable[[], object] | None = None,
        until: Callable[[], bool] | None = None,
    ) -> float:
        """Run the event loop, ``do`` in it first; return the longest time between beats, ms.

        Parameters
        ----------
        seconds : float
            How long; with ``until``, how long at most.
        do : callable, optional
        until : callable -> bool, optional
        """
        self._worst, self._until = 0.0, until
        self._last = time.perf_counter()
        self._end = self._last + seconds
        if do is not None:
            self._single(0, do)
        self._timer.start()
        self._watched = True
        self._loop.exec()
        self._watched = False
        self._timer.stop()
        return self._worst * 1e3

    def rss(self) -> int:
        """Return the resident memory in bytes; the largest seen so far is ``peak``."""
        found = int(self._process.memory_info().rss)
        self.peak = max(self.peak, found)
        return found

    def _beat(self) -> None:
        now = time.perf_counter()
        self._worst = max(self._worst, now - self._last)
        self._last = now
        if now - self._weighed > 0.02:
            self.rss()
            self._weighed = now
        if now > self._end or (self._until is not None and self._until()):
            self._loop.quit()

    def _watch(self, main: int) -> None:
        while True:
            time.sleep(0.003)
            if not self._watched or time.perf_counter() - self._last < LATE_S:
                continue
            frame = sys._current_frames().get(main)
            names = []
            while frame is not None:
                code = frame.f_code
                names.append(f"{os.path.basename(code.co_filename)}:{code.co_name}")
                frame = frame.f_back
            self.stacks[" < ".join(names[:6])] += 1


def show(viewer: Any, kind: str, dock: Any, slide: str) -> None:
    """Show what is panned, in the place and size of the synthetic slide.

    Parameters
    ----------
    viewer : napari.Viewer
    kind : str
        ``"slide"`` by the dock; ``"pyramid"``, a numpy pyramid in memory, napari's own way;
        ``"frame"``, a numpy image of the canvas's size, which needs nothing but the renderer.
    dock : HistosamDock
    slide : str
        Its path.
    """
    import numpy as np

    if kind == "slide":
        dock.workbench.open(slide)
        return
    placed = {"rgb": True, "units": ("um", "um")}
    draw = np.random.default_rng(0)
    if kind == "frame":
        height, width = viewer.canvas.size
        image = draw.integers(0, 255, (height, width, 3), np.uint8)
        scale = (HEIGHT * MPP / height, WIDTH * MPP / width)
        viewer.add_image(image, scale=scale, **placed)
    else:
        levels, size = [], (HEIGHT, WIDTH)
        while max(size) > 512:
            # One row stands for all: an array as large as the slide that takes no memory.
            row = draw.integers(0, 255, (1, size[1], 3), np.uint8)
            levels.append(np.broadcast_to(row, (*size, 3)))
            size = (size[0] // 2, size[1] // 2)
        viewer.add_image(levels, multiscale=True, scale=(MPP, MPP), **placed)
    viewer.reset_view()


def pan(viewer: Any, right: float, down: float) -> None:
    """Move the camera by screen px."""
    camera = viewer.scene.camera
    _, y, x = camera.center
    camera.center = (0.0, y + down / camera.zoom, x + right / camera.zoom)


def zoom(viewer: Any, factor: float) -> None:
    """Zoom about the canvas's centre."""
    viewer.scene.camera.zoom *= factor
