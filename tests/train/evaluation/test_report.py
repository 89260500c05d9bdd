"""The report: tables with a cell for everything, and a picture of the median and the worst."""

from __future__ import annotations

import cv2
import numpy as np

from napari_histosam.train.evaluation.figures import row
from napari_histosam.train.evaluation.report import markdown, write_picture

TILE = 192


def tables(text):
    """Return the tables of a Markdown text as lists of rows of cells."""
    found, open_one = [], None
    for line in text.splitlines():
        if not line.startswith("|"):
            open_one = None
            continue
        if open_one is None:
            open_one = []
            found.append(open_one)
        assert line.startswith("| ")
        assert line.endswith(" |")
        open_one.append([cell.strip() for cell in line[1:-1].split("|")])
    return found


def test_every_column_has_a_cell(helpers):
    full = [
        helpers.outcome(
            clicks=(0.25, 0.5, 0.75),
            random=0.125,
            box=0.875,
            ellipse=0.625,
            offered=(0.25, 0.375),
            click_score=0.5,
            box_score=0.75,
            followed=((True, True), (False, False)),
            encode_ms=(1234.5,),
            decode_ms=(0.5,),
        ),
        helpers.outcome(name="tnbc_2", area=30_000, box=0.5, cut=True),
    ]
    rows = [row("nuclei", "one", full[:1] * 1200), row("glands", "two", full[1:])]
    text = markdown(rows, "Made up.")
    assert text.startswith("Made up.\n\n| set | model | objects | 1 click | 3 clicks |")
    assert text.endswith("|\n")
    first, by_source, by_size = tables(text)
    for table in (first, by_source, by_size):
        head, rule, *body = table
        assert rule == ["---"] * len(head)
        assert len(body) == 2
        assert all(len(cells) == len(head) for cells in body)
        assert all(cell for cells in body for cell in cells)
    one, two = (dict(zip(first[0], cells, strict=True)) for cells in first[2:])
    assert one == {
        "set": "nuclei",
        "model": "one",
        "objects": "1,200",
        "1 click": ".250",
        "3 clicks": ".750",
        "random click": ".125",
        "best of those offered": ".375",
        "box": ".875",
        "ellipse in the box": ".625",
        "box at least .8": "1.000",
        "box, uncut": ".875",
        "box, cut": "-",
        "score error (click, box)": ".250, .125",
        "first is best": ".000",
        "negative obeyed": ".000",
        "positive obeyed": "1.000",
        "encode ms": "1234.5",
        "decode ms": ".500",
    }
    assert (two["box, uncut"], two["box, cut"], two["encode ms"]) == ("-", ".500", "-")
    assert by_source[2][:4] == ["nuclei", "one", "dsb", "1,200"]
    assert by_source[3] == ["glands", "two", "tnbc", "1", ".500", ".700", ".500", ".750"]
    assert by_size[3][2] == "5,000 to 40,000 px"
    assert "### By data set" in text
    assert "### By area of the object" in text


def seen(path):
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    return picture[..., ::-1]


def look_at(size=300, place=(100, 120, 40)):
    """A grey image with a square, which the model sees 10 px too far right; and who was seen."""
    asked = []

    def look(one):
        asked.append(one.number)
        left, top, side = place
        image = np.full((size, size, 3), 128, np.uint8)
        truth, mask = np.zeros((2, size, size), bool)
        truth[top : top + side, left : left + side] = True
        mask[top : top + side, left + 10 : left + side + 10] = True
        return image, truth, mask

    return look, asked


def test_the_picture_shows_the_median_and_the_worst(helpers, tmp_path):
    found = [helpers.outcome(number=n, box=n / 20) for n in (7, 3, 19, 0, 11, 5, 15, 2, 9, 13)]
    found += [helpers.outcome(number=n, box=n / 20) for n in (1, 4, 6, 8, 10, 12, 14, 16, 17, 18)]
    look, asked = look_at()
    path = tmp_path / "cases.png"
    write_picture(path, found, look)
    assert seen(path).shape == (2 * TILE, 8 * TILE, 3)
    assert asked[:8] == list(range(6, 14))  # around the median of 0 … 19
    assert asked[8:] == list(range(8))
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["cases.png"]


def test_few_objects_and_another_count(helpers, tmp_path):
    look, asked = look_at()
    write_picture(tmp_path / "one.png", [helpers.outcome(number=4)], look)
    assert asked == [4, 4]
    picture = seen(tmp_path / "one.png")
    assert picture.shape == (2 * TILE, 8 * TILE, 3)  # the worst on a row of their own
    assert np.array_equal(picture[:TILE], picture[TILE:])
    assert (picture[:, TILE:] == 255).all()  # nothing there
    found = [helpers.outcome(number=n, box=n / 40) for n in range(40)]
    write_picture(tmp_path / "many.png", found, look, count=16)
    assert seen(tmp_path / "many.png").shape == (4 * TILE, 8 * TILE, 3)


def test_outlines_are_green_for_the_truth_and_red_for_the_answer(helpers, tmp_path):
    look, _ = look_at()
    write_picture(tmp_path / "one.png", [helpers.outcome()], look)
    tile = seen(tmp_path / "one.png")[:TILE, :TILE].astype(int)
    green = np.argwhere((tile == (40, 200, 60)).all(2))
    red = np.argwhere((tile == (230, 40, 40)).all(2))
    assert len(green) > 100
    assert len(red) > 300
    # Truth and answer are drawn where they lie: the answer farther right by 10 px of the image.
    side = int(50 * 1.5) + 12 - 1  # px of the image in a tile
    moved = (red[:, 1].max() - green[:, 1].max()) / TILE * side
    assert abs(moved - 10) < 1.5
    assert abs((red[:, 0].min() + red[:, 0].max()) / 2 - TILE / 2) < 4
    assert (tile[2, 2] == 128).all()


def test_an_object_at_the_images_edge(helpers, tmp_path):
    look, _ = look_at(size=60, place=(5, 0, 40))
    write_picture(tmp_path / "edge.png", [helpers.outcome()], look)
    tile = seen(tmp_path / "edge.png")[:TILE, :TILE]
    assert (tile[0, 0] == 128).all()
    assert (tile == 128).all(2).mean() > 0.5
