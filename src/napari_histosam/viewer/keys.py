"""The keys of a session, on the viewer and on our layers, and their way back."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari_histosam.viewer.tools import Tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_histosam.viewer.controller import Controller

# napari 0.9 leaves these letters free: G H J K N Q U W 8 9 0; T only a user's own Shapes take.
TOOL_KEYS = {"Q": Tool.CLICK, "W": Tool.BOX, "U": Tool.SCRIBBLE, "K": Tool.BRUSH, "H": Tool.PAN}
CLASS_KEYS = {"8": 0, "9": 1, "0": 2}


def actions(controller: Controller) -> dict[str, Callable[[], object]]:
    """Return what each key does, keys in napari's spelling."""
    table: dict[str, Callable[[], object]] = {
        "N": controller.accept_or_normal,
        "T": controller.tumour,
        "Enter": controller.accept,
        "Escape": controller.reject,
        "J": controller.next_candidate,
        "G": controller.next_object,
        "Delete": controller.delete,
        "Backspace": controller.delete,
        "Control-Z": controller.undo,
        "Control-Shift-Z": controller.redo,
    }
    for key, tool in TOOL_KEYS.items():
        table[key] = partial(controller.set_tool, tool)
    for key, index in CLASS_KEYS.items():
        table[key] = partial(controller.choose_class, index)
    return table


class KeyBindings:
    """Binds the keys to a viewer and to layers, and unbinds them again.

    Parameters
    ----------
    controller : Controller

    Notes
    -----
    napari asks the active layer before the viewer, so the few keys that its layers take as well
    (undo in Labels, for one) are bound on our layers too.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._actions = actions(controller)
        self._layers: list[Any] = []
        self._bind(controller.viewer)
        controller.viewer.bind_key("Space", self._hold_to_pan, overwrite=True)

    def bind(self, layer: Any) -> None:
        """Bind all keys on a layer of ours."""
        if layer not in self._layers:
            self._bind(layer)
            self._layers.append(layer)

    def forget(self, layer: Any) -> None:
        """Let go of a layer that left the viewer."""
        if layer in self._layers:
            self._layers.remove(layer)

    def unbind(self) -> None:
        """Give all keys back."""
        for target in (self._controller.viewer, *self._layers):
            for key in self._actions:
                target.bind_key(key, None)
        self._controller.viewer.bind_key("Space", None)
        self._layers.clear()

    def _bind(self, target: Any) -> None:
        for key, do in self._actions.items():
            target.bind_key(key, lambda _target, do=do: do() and None, overwrite=True)

    def _hold_to_pan(self, _viewer: Any) -> Iterator[None]:
        self._controller.panning = True
        yield
        self._controller.panning = False
