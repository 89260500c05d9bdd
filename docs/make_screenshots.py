"""Makes the pictures of the docs from the real window on the shipped sample slide.

Run it where there is a display; on a Linux machine without one::

    xvfb-run -a -s "-screen 0 1600x1000x24" python docs/make_screenshots.py
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from PIL import Image

IMAGES = Path(__file__).parent / "images"
FIELD = (1190.0, 2010.0, 1320.0, 2140.0)


def as_jpeg(path: Path) -> Path:
    """Replace a PNG by a JPEG: tissue takes a quarter of the bytes, letters stay sharp."""
    small = path.with_suffix(".jpg")
    with Image.open(path) as image:
        image.convert("RGB").save(small, quality=88, subsampling=0, optimize=True)
    path.unlink()
    return small


def annotate(folder: Path) -> None:
    from napari_histosam.cli.demo import play
    from napari_histosam.home import sample_slide
    from napari_histosam.viewer.showing import Stage
    from napari_histosam.viewer.tools import Tool

    slide = Path(shutil.copy(sample_slide(), folder / sample_slide().name))
    stage = Stage(slide)
    controller, session = stage.controller, stage.controller.session
    try:
        stage.picture(IMAGES / "open.png")
        controller.look_at(*FIELD)
        play(session, stage.settle)
        session.set_class("Nucleus")
        session.add_point(1154.5, 2072.0)
        session.add_point(1168.0, 2064.0, positive=False)
        stage.settle()
        stage.picture(IMAGES / "window.png")
        session.reject()
        controller.set_tool(Tool.PAN)
        session.objects.select([next(o.id for o in session.store.iterate())])
        stage.picture(IMAGES / "select.png")
        stage.dock.tabs.setCurrentIndex(1)
        stage.picture(IMAGES / "exchange.png")
    finally:
        stage.close()


def scale(folder: Path) -> None:
    from napari_histosam.home import sample_slide
    from napari_histosam.slide import open_slide
    from napari_histosam.viewer.showing import Stage

    bare = folder / "no-scale.png"
    with open_slide(sample_slide()) as slide:
        Image.fromarray(slide.read_region(1000, 1900, 0, 900, 700)).save(bare)
    stage = Stage(bare)
    try:
        stage.picture(IMAGES / "scale.png")
    finally:
        stage.close()


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        # The user's own settings, weights and objects are none of the docs' business.
        os.environ["HISTOSAM_HOME"] = str(Path(name) / "home")
        os.environ["NAPARI_CONFIG"] = ""
        annotate(Path(name))
        scale(Path(name))
    for picture in sorted(IMAGES.glob("*.png")):
        small = as_jpeg(picture)
        print(f"{small.name}: {small.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
