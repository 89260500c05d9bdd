"""Trains the bundled model: ``python -m napari_histosam.train.small --help``."""

from napari_histosam.train.small.command import main

main()
