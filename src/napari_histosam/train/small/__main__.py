"""Trains the bundled model: ``python -m napari_histosam.train.small --help``."""

from napari_histosam.train.small.command import main

if __name__ == "__main__":
    main()
