"""Draws a training log of the bundled model as an SVG curve.

Call it with the log and the picture to write::

python docs/plot_training.py docs/small_model/log.csv docs/small_model/curve.svg
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP = 720, 380, 56, 24
LINES = {
    "train_iou": ("training objects, any prompt, any scale", "#888888"),
    "val_click1": ("held out, 1 click", "#d62728"),
    "val_click3": ("held out, 3 clicks", "#1f77b4"),
    "val_box": ("held out, box", "#2ca02c"),
    "val_score_error": ("held out, error of predicted IoU", "#9467bd"),
}


def curve(rows: list[dict[str, str]]) -> str:
    """Return the SVG of a log's rows."""
    last = float(rows[-1]["step"])
    wide, high = WIDTH - LEFT - 16, HEIGHT - TOP - 96

    def at(step: float, value: float) -> str:
        return f"{LEFT + wide * step / last:.1f},{TOP + high * (1 - value):.1f}"

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for tenth in range(0, 11, 2):
        y = TOP + high * (1 - tenth / 10)
        out.append(f'<path d="M{LEFT} {y:.1f}H{LEFT + wide}" stroke="#dddddd"/>')
        out.append(f'<text x="{LEFT - 28}" y="{y + 4:.1f}">{tenth / 10:.1f}</text>')
    for part in range(7):
        x = LEFT + wide * part / 6
        step = f"{last * part / 6:,.0f}"
        out.append(f'<text x="{x:.0f}" y="{TOP + high + 18}" text-anchor="middle">{step}</text>')
    for number, (key, (title, colour)) in enumerate(LINES.items()):
        points = " ".join(at(float(row["step"]), float(row[key])) for row in rows)
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = LEFT + (number % 2) * 320, TOP + high + 40 + (number // 2) * 18
        out.append(f'<path d="M{x} {y - 4}h18" stroke="{colour}" stroke-width="3"/>')
        out.append(f'<text x="{x + 24}" y="{y}">{title}</text>')
    out.append(f'<text x="{LEFT}" y="{TOP - 8}">mean IoU (or error) by optimiser step</text></svg>')
    return "\n".join(out) + "\n"


def main() -> None:
    source, target = map(Path, sys.argv[1:3])
    with source.open(newline="") as file:
        target.write_text(curve(list(csv.DictReader(file))), "utf-8")


if __name__ == "__main__":
    main()
