"""Decoder `classical`: stain separation, thresholds and watershed; needs no weights."""
