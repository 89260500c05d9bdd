"""Decoder `wsi-sam`: two concentric windows of one place, the coarser one as context."""
