"""Frames, windows, and the way between masks and polygons."""
