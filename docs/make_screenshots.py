"""Makes the pictures of the docs from the real window on the shipped sample slide.

Run it where there is a display; on a Linux machine without one::

    xvfb-run -a -s "-screen 0 1600x1000x24" python docs/make_screenshots.py
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from napari_histosam.viewer.showing import Stage

IMAGES = Path(__file__).parent / "images"
FIELD = (1190.0, 2010.0, 1320.0, 2140.0)


def as_jpeg(path: Path) -> Path:
    """Replace a PNG by a JPEG: tissue takes a quarter of the bytes, letters stay sharp."""
    small = path.with_suffix(".jpg")
    with Image.open(path) as image:
        image.convert("RGB").save(small, quality=88, subsampling=0, optimize=True)
    path.unlink()
    return small


def open_tab(stage: Stage, name: str) -> None:
    tabs = stage.dock.tabs
    tabs.setCurrentIndex([tabs.tabText(i) for i in range(tabs.count())].index(name))


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
        open_tab(stage, "Exchange")
        stage.picture(IMAGES / "exchange.png")
    finally:
        stage.close()


def automate(folder: Path) -> None:
    import numpy as np

    from napari_histosam.home import sample_slide
    from napari_histosam.viewer.automation import Where
    from napari_histosam.viewer.showing import Stage
    from napari_histosam.viewer.tools import enclosed

    slide = Path(shutil.copy(sample_slide(), folder / sample_slide().name))
    stage = Stage(slide)
    try:
        open_tab(stage, "Automate")
        stage.controller.look_at(1080, 1850, 1300, 2070)
        turn = np.linspace(0, 2 * np.pi, 80)
        x = 1180 + 190 * np.cos(turn) + 25 * np.cos(3 * turn)
        stage.controller.set_region(enclosed(np.column_stack([x, 1960 + 170 * np.sin(turn)])))
        tab = stage.dock.automate
        tab.places[Where.REGION].setChecked(True)
        tab.start.click()
        stage.until(lambda: tab.automation.running is None)
        stage.settle()
        stage.picture(IMAGES / "automate.png")
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


def crop(folder: Path, name: str, left: int, top: int) -> Path:
    """Cut a slide of its own out of the sample, with nuclei accepted and some of them corrected."""
    from dataclasses import replace

    import numpy as np
    from skimage import color, filters, measure

    from napari_histosam import Session, open_slide
    from napari_histosam.home import sample_slide
    from napari_histosam.store import open_store_for

    path = folder / name
    with open_slide(sample_slide()) as whole:
        pixels = whole.read_region(left, top, 0, 640, 640)
        dpi = 25400 / whole.mpp[0]
    Image.fromarray(pixels).save(path, dpi=(dpi, dpi))
    stain = filters.gaussian(color.rgb2hed(pixels)[..., 0], 2)
    spots = measure.regionprops(measure.label(stain > np.quantile(stain, 0.93)))
    spots = [o for o in spots if 60 < o.area < 600 and o.solidity > 0.85 and o.eccentricity < 0.9]
    with (
        open_slide(path) as slide,
        open_store_for(path, slide.identity, slide.name) as store,
        Session(slide, store=store) as session,
    ):
        for number, one in enumerate(spots[:36]):
            top, left, bottom, right = one.bbox
            session.add_box(left - 2, top - 2, right + 2, bottom + 2)
            if session.preview is None or session.preview.objects["1"].geometry is None:
                session.reject()
                continue
            session.accept("Tumor" if number % 3 else "Stroma")
        for number, item in enumerate(list(store.iterate())):
            if number % 4:
                store.replace([item.id], [replace(item, geometry=item.geometry.buffer(1.5))])
    return path


def learn(folder: Path) -> None:
    from napari_histosam.viewer.showing import Stage

    first = crop(folder, "biopsy-1.png", 1200, 1800)
    stage = Stage(first)
    tab = stage.dock.learn
    try:
        open_tab(stage, "Learn")
        stage.until(lambda: bool(tab.desk.shelf.slides) and bool(tab.desk.bases))
        stage.picture(IMAGES / "learn-one-slide.png")
        tab.add_slides([crop(folder, "biopsy-2.png", 800, 450)])
        stage.until(lambda: len(tab.desk.shelf.slides) == 2)
        stage.until(lambda: tab.plan.takes.text().startswith("About"))
        stage.picture(IMAGES / "learn-ready.png")
        tab.plan.epochs.setValue(8)
        tab.plan.start.click()
        while len(tab.desk.look().epochs) < 6:
            stage.rest(0.2)
        stage.picture(IMAGES / "learn-running.png")
        while tab.desk.look().working:
            stage.rest(1.0)
        stage.rest(1.0)
        stage.picture(IMAGES / "learn-finished.png")
    finally:
        stage.close()


def boxed(folder: Path, name: str, left: int, top: int) -> Path:
    """Cut a slide out of the sample, with an object for a box around each dark spot."""
    from dataclasses import replace

    from skimage import color, filters, measure

    from napari_histosam import Session, open_slide
    from napari_histosam.home import sample_slide
    from napari_histosam.store import open_store_for

    path = folder / name
    with open_slide(sample_slide()) as whole:
        pixels = whole.read_region(left, top, 0, 640, 640)
        dpi = 25400 / whole.mpp[0]
    Image.fromarray(pixels).save(path, dpi=(dpi, dpi))
    stain = filters.gaussian(color.rgb2hed(pixels)[..., 0], 2)
    spots = measure.regionprops(measure.label(stain > filters.threshold_otsu(stain) * 1.3))
    with (
        open_slide(path) as slide,
        open_store_for(path, slide.identity, slide.name) as store,
        Session(slide, store=store) as session,
    ):
        for one in [o for o in spots if o.area > 60][:80]:
            y0, x0, y1, x1 = one.bbox
            session.add_box(x0, y0, x1, y1)
            session.accept("Tumor")
        # As if a model had found them by itself: nobody has looked at them yet.
        store.update(
            replace(one, provenance=replace(one.provenance, source="automatic"))
            for one in store.iterate()
        )
    return path


def review(folder: Path) -> None:
    from napari_histosam.viewer.showing import Stage

    stage = Stage(boxed(folder, "biopsy-3.png", 1200, 1800))
    walk = stage.controller.review
    try:
        open_tab(stage, "Review")
        stage.dock.review.ask.setChecked(True)
        stage.dock.review.start.click()
        stage.until(lambda: walk.begun)
        for _ in range(4):
            stage.controller.delete()
        stage.controller.accept()
        stage.picture(IMAGES / "review.png")
    finally:
        stage.close()


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        # The user's own settings, weights and objects are none of the docs' business.
        os.environ["HISTOSAM_HOME"] = str(Path(name) / "home")
        os.environ["NAPARI_CONFIG"] = ""
        annotate(Path(name))
        automate(Path(name))
        scale(Path(name))
        review(Path(name))
        learn(Path(name))
    for picture in sorted(IMAGES.glob("*.png")):
        small = as_jpeg(picture)
        print(f"{small.name}: {small.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
