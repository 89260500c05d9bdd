"""The bundled model, `histosam-small`."""
