"""One slide, one store, one model, one tool: click, window, decode, preview, accept."""

from napari_histosam.session.answer import Answerer
from napari_histosam.session.objects import ObjectDesk
from napari_histosam.session.previews import ObjectPreview, Preview, Request
from napari_histosam.session.session import DEFAULT_MODEL, Session

__all__ = [
    "DEFAULT_MODEL",
    "Answerer",
    "ObjectDesk",
    "ObjectPreview",
    "Preview",
    "Request",
    "Session",
]
