"""``python -m napari_histosam.train.sam_small``."""

from napari_histosam.train.sam_small.command import main

if __name__ == "__main__":
    main()
