"""Refreshes layers at napari's own pace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_histosam.jobs import Dispatcher

PAUSE_SECONDS = 0.05


class Refresher:
    """Refreshes layers, but not while napari's asynchronous slicing is still busy with them.

    A refresh then would only be cancelled or pile up behind the one under way, so one waits for
    all that are asked for meanwhile.

    Parameters
    ----------
    dispatcher : Dispatcher, optional
        Lets a refresh wait; without one it comes at once.
    wanted : callable
        ``wanted(layer)`` tells whether the layer is still shown.
    thumbnail : bool
        Whether the thumbnail is to be drawn anew as well.
    """

    def __init__(
        self,
        dispatcher: Dispatcher | None,
        wanted: Callable[[Any], bool],
        *,
        thumbnail: bool = False,
    ) -> None:
        self._dispatcher = dispatcher
        self._wanted = wanted
        self._thumbnail = thumbnail
        self._waiting: list[Any] = []

    def refresh(self, layer: Any) -> None:
        """Refresh a layer now or, while it is being sliced, soon after."""
        if layer not in self._waiting:
            self._try(layer)

    def _try(self, layer: Any) -> None:
        if not self._wanted(layer):
            return
        if self._dispatcher is not None and not layer.loaded:
            self._waiting.append(layer)
            self._dispatcher.later(PAUSE_SECONDS, lambda: self._again(layer))
        else:
            layer.refresh(extent=False, highlight=False, thumbnail=self._thumbnail)

    def _again(self, layer: Any) -> None:
        self._waiting.remove(layer)
        self._try(layer)
