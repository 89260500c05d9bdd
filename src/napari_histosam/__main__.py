"""Runs the command line: ``python -m napari_histosam``."""

import sys

from napari_histosam.cli import main

if __name__ == "__main__":
    sys.exit(main())
