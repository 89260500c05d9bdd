"""Sources: stores find their slides, slides their stores, annotation files their ids."""

from __future__ import annotations

import gzip
import json
import shutil

import pytest
import shapely

from napari_histosam.errors import InputError
from napari_histosam.exchange import ExportContext, ExportOptions, write
from napari_histosam.slide import open_slide
from napari_histosam.train.dataset.request import Annotated
from napari_histosam.train.dataset.sources import read_sources


def test_a_store_and_its_slide_are_the_same_source(lab, make_disc):
    slide = lab.annotated("a.png", 1, [make_disc(100, 100)])
    store = slide.with_name("a.png.histosam.sqlite")
    (one,) = read_sources([store])
    assert (one.name, one.path, one.size, one.mpp) == ("a.png", slide, (700, 600), (0.5, 0.5))
    with open_slide(slide) as opened:
        assert one.identity == opened.identity
    assert [found.id for found in one.objects] == [make_disc(100, 100).id]
    assert read_sources([slide]) == [one]
    assert read_sources([slide.parent]) == [one]
    # Named twice, it is one slide.
    (twice,) = read_sources([store, slide])
    assert len(twice.objects) == 2


def test_sources_come_in_the_order_of_their_identity(lab, make_disc):
    slides = [lab.annotated(f"{n}.png", n, [make_disc(50, 50)]) for n in range(3)]
    found = read_sources(slides)
    assert found == read_sources(reversed(slides))
    assert [one.identity for one in found] == sorted(one.identity for one in found)


def test_a_store_that_lies_elsewhere(lab, make_disc):
    slide = lab.annotated("a.png", 1, [make_disc(100, 100)])
    (lab.root / "stores").mkdir()
    store = shutil.move(f"{slide}.histosam.sqlite", lab.root / "stores")
    store = lab.root / "stores" / "a.png.histosam.sqlite"
    with pytest.raises(InputError, match=r"The slide a\.png of .* is not there; .* --slides"):
        read_sources([store])
    deep = lab.root / "slides" / "deep"
    deep.mkdir(parents=True)
    shutil.move(slide, deep / "a.png")
    assert read_sources([store], look_in=[lab.root / "slides"])[0].path == deep / "a.png"
    renamed = (deep / "a.png").rename(deep / "b.png")
    assert read_sources([store], look_in=[renamed])[0].name == "b.png"
    with pytest.raises(InputError, match="to look for slides in"):
        read_sources([store], look_in=[lab.root / "none"])


def test_a_store_of_another_slide_is_refused(lab, make_disc):
    slide = lab.annotated("a.png", 1, [make_disc(100, 100)])
    lab.slide("a.png", 2)
    with pytest.raises(InputError, match=r"is not the slide a\.png that the objects"):
        read_sources([slide.with_name("a.png.histosam.sqlite")])
    with pytest.raises(InputError, match="objects of another slide"):
        read_sources([slide])


def test_what_is_not_there_or_cannot_be_read_is_refused(lab, tmp_path):
    with pytest.raises(InputError, match=r"There is no .*none"):
        read_sources([tmp_path / "none"])
    slide = lab.slide("a.png")
    with pytest.raises(InputError, match="No objects are kept for"):
        read_sources([slide])
    assert not slide.with_name("a.png.histosam.sqlite").exists()
    text = tmp_path / "notes.svs"
    text.write_text("notes")
    with pytest.raises(InputError, match=r"notes\.svs"):
        read_sources([text])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        read_sources([tmp_path / "empty"])
    broken = tmp_path / "x.histosam.sqlite"
    broken.write_bytes(b"SQLite format 3\0" + b"junk" * 500)
    with pytest.raises(InputError, match=r"x\.histosam\.sqlite"):
        read_sources([broken])


def test_annotation_files_keep_their_ids_and_get_lasting_ones(lab, make_disc, tmp_path):
    slide = lab.slide("a.png")
    path = tmp_path / "a.geojson"
    write([make_disc(100, 100, class_name="N")], path, slide_info=ExportContext())
    bare = {"type": "Feature", "geometry": shapely.geometry.mapping(shapely.box(9, 9, 40, 40))}
    data = json.loads(path.read_text("utf-8"))
    data["features"] += [bare, bare]
    packed = tmp_path / "a.geojson.gz"
    packed.write_bytes(gzip.compress(json.dumps(data).encode()))
    (first,) = read_sources([], [Annotated(slide, packed)])
    ids = [one.id for one in first.objects]
    assert ids == [one.id for one in read_sources([], [Annotated(slide, packed)])[0].objects]
    assert ids[0] == make_disc(100, 100).id
    assert len(set(ids)) == 3
    assert first.objects[0].class_name == "N"


def test_label_images_are_annotations_too(lab, make_disc, tmp_path):
    slide = lab.slide("a.png")
    path = tmp_path / "labels.png"
    context = ExportContext(size=(700, 600))
    write([make_disc(100, 100)], path, slide_info=context, options=ExportOptions())
    (one,) = read_sources([], [Annotated(slide, path)])
    assert [found.id for found in one.objects] == [make_disc(100, 100).id]
    path.with_name("labels.labels.csv").unlink()
    (one,) = read_sources([], [Annotated(slide, path)])
    (again,) = read_sources([], [Annotated(slide, path)])
    assert [found.id for found in one.objects] == [found.id for found in again.objects]


def test_store_and_annotations_of_one_slide_are_put_together(lab, make_disc, tmp_path):
    slide = lab.annotated("a.png", 1, [make_disc(100, 100)])
    path = tmp_path / "more.geojson"
    write([make_disc(300, 300)], path)
    (one,) = read_sources([slide], [Annotated(slide, path)])
    assert len(one.objects) == 2
    with pytest.raises(InputError, match="check --annotations"):
        read_sources([], [Annotated(slide, tmp_path / "none.geojson")])


def test_reading_can_be_stopped(lab, make_disc):
    slide = lab.annotated("a.png", 1, [make_disc(100, 100)])

    def stop(name: str) -> None:
        raise KeyboardInterrupt(name)

    with pytest.raises(KeyboardInterrupt, match=r"a\.png"):
        read_sources([slide], step=stop)
