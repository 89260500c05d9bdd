"""napari layers, mouse and keys: what shows a session and what drives it. No Qt here."""
