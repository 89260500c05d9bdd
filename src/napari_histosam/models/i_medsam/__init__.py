"""Decoder `i-medsam`: a box to a mask that is a function of place, at any resolution."""
