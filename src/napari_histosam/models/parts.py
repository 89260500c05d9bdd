"""Models that consist of several files: which file is which part, and whether all are there."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from napari_histosam.models.cards import ModelCard, WeightFile

# Family -> part -> what `detect` may say of its file: decoder and variant, upstream's first.
PARTS: Mapping[str, Mapping[str, tuple[tuple[str, str], ...]]] = {
    "wsi-sam": {
        "encoder": (("sam", "vit_t"), ("sam", "bundled")),
        "high": (("wsi-sam", "decoder"),),
        "low": (("wsi-sam", "decoder"),),
    },
    "i-medsam": {
        "encoder": (("sam", "vit_b"), ("sam", "bundled")),
        "adapted": (("i-medsam", "adapted"),),
    },
    "ep-sam": {
        "encoder": (("sam", "vit_b"), ("sam", "bundled")),
        "classifier": (("ep-sam", "classifier"),),
        "decoder": (("ep-sam", "decoder"),),
    },
}
# The text beside the weights that says which of WSI-SAM's decoders they are, in our own files.
ROLE = "role"
# The text beside exported weights that says what they do not tell themselves: members of the card.
SETTINGS = "settings"
TRAVELLING = ("variant", "mpp", "window_px", "object_px", "recipe")


@dataclass(frozen=True)
class Part:
    """One file of a model, read.

    Parameters
    ----------
    name : str
        ``"encoder"``, ``"high"``, …: see `PARTS`.
    path : Path
    state : mapping of str to Tensor
    """

    name: str
    path: Path
    state: Mapping[str, Tensor]


def is_manifold(card: ModelCard) -> bool:
    """Tell whether a card's family consists of several files."""
    return card.decoder in PARTS


def own_parts(decoder: str) -> tuple[str, ...]:
    """Return the parts that hold a family's own weights; the others hold a SAM's."""
    return tuple(name for name, kinds in PARTS[decoder].items() if kinds[0][0] == decoder)


def settings_of(path: Path) -> dict[str, Any]:
    """Return what a file says of the model beside its weights: members of the card, or nothing.

    Raises
    ------
    InputError
        If it says what no card can hold.
    """
    from napari_histosam.models.checkpoint import read_labels

    text = read_labels(path).get(SETTINGS)
    if text is None:
        return {}
    try:
        told = json.loads(text)
        found = {key: _SETTINGS[key](value) for key, value in told.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path.name} says of its model what cannot be read ({error}): export it again."
        ) from error
    return found


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError(f"{value!r} is no size")
    return float(value)


def _pixels(value: Any) -> int:
    if _positive(value) != int(value):
        raise ValueError(f"{value!r} is no number of pixels")
    return int(value)


def _range(value: Any) -> tuple[float, float]:
    least, most = map(_positive, value)
    return least, most


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _names(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is no recipe")
    return value


_SETTINGS: Mapping[str, Callable[[Any], Any]] = {
    "variant": _text,
    "mpp": lambda value: None if value is None else _positive(value),
    "window_px": _pixels,
    "object_px": _range,
    "recipe": _names,
}


def read_part(decoder: str, path: Path) -> Part:
    """Read a file and find out which part of a family it is.

    The two decoders of WSI-SAM hold the same names and shapes; which one a file is, its label
    says, if it has one, else its name.

    Raises
    ------
    InputError
        If the file cannot be read, is no part of the family, or it is unclear which.
    """
    from napari_histosam.models.checkpoint import read_checkpoint, shapes
    from napari_histosam.models.detect import detect

    state = read_checkpoint(path)
    found = detect(shapes(state))
    fitting = [
        name for name, kinds in PARTS[decoder].items() if (found.decoder, found.variant) in kinds
    ]
    if not fitting:
        raise InputError(
            f"{path.name} looks like {found.what}, which is no part of {decoder}: choose "
            f"{_wanted(decoder)}."
        )
    return Part(fitting[0] if len(fitting) == 1 else _side(path), path, state)


def read_parts(card: ModelCard, paths: Sequence[Path], hashes: Sequence[str]) -> dict[str, Part]:
    """Read all files of a model, which lie in the card's order, and check that each is in place.

    Raises
    ------
    InputError
        If a file is not the part that it should be, or two are the same file.
    """
    if len(set(hashes)) != len(hashes):
        raise InputError(f"Two of the files of {card.name} hold the same weights: bring each part.")
    parts = {}
    for entry, path in zip(card.files, paths, strict=True):
        part = read_part(card.decoder, path)
        if part.name != entry.part:
            raise InputError(
                f"{path.name} holds the part {part.name!r} of {card.decoder} in the place of "
                f"{entry.part!r}: give each file its own name back."
            )
        parts[entry.part] = part
    return parts


def encoder_of(decoder: str, part: Part) -> str:
    """Return which of the encoders that a family takes a file holds, upstream's if none."""
    from napari_histosam.models.checkpoint import shapes
    from napari_histosam.models.detect import detect

    kinds = PARTS[decoder]["encoder"]
    found = detect(shapes(part.state))
    kind = (found.decoder or "", found.variant or "")
    return kind[1] if kind in kinds else kinds[0][1]


def check_part(decoder: str, part: Part) -> None:
    """Raise InputError unless a file has all that its part of a family needs."""
    if part.name == "encoder":
        from napari_histosam.models.checkpoint import shapes
        from napari_histosam.models.sam.build import fitting_sam

        fitting_sam(shapes(part.state), part.path.name, encoder_of(decoder, part))
    elif decoder == "wsi-sam":
        from napari_histosam.models.wsi_sam.load import check_decoder

        check_decoder(part)
    elif decoder == "ep-sam":
        from napari_histosam.models.ep_sam.load import check_part as check_own

        check_own(part)
    else:
        from napari_histosam.models.i_medsam.load import check_adapted

        check_adapted(part)


def arranged(
    card: ModelCard, paths: Sequence[Path], find: Callable[[WeightFile], Path | None]
) -> list[Path]:
    """Return a user's files in the card's order, in whatever order they were given.

    Parameters
    ----------
    card : ModelCard
    paths : sequence of Path
    find : callable of WeightFile -> Path or None
        Finds files that were not given.

    Raises
    ------
    InputError
        If a file is no part, a part is given twice, or one is missing.
    """
    given: dict[str, Path] = {}
    for path in paths:
        part = read_part(card.decoder, path)
        if part.name in given:
            raise InputError(
                f"{given[part.name].name} and {path.name} are both the part {part.name!r} of "
                f"{card.name}: give each part once."
            )
        given[part.name] = path
    out = []
    for entry in card.files:
        place = given.get(entry.part) or find(entry)
        if place is None:
            raise InputError(
                f"{card.name} consists of {len(card.files)} files and the part {entry.part!r} "
                f"({entry.name}) is missing: give it, too."
            )
        out.append(place)
    return out


def joint_hash(card: ModelCard, hashes: Sequence[str]) -> str:
    """Return one hash (64 hex digits) of a model made of several files and how it is built."""
    text = "\n".join([card.decoder, card.variant or "", str(card.window_px), *hashes])
    return hashlib.sha256(text.encode()).hexdigest()


def joined(parts: Mapping[str, Part]) -> dict[str, Tensor]:
    """Return the weights of all parts in one, as ``"part/name"``."""
    return {f"{key}/{name}": v for key, part in parts.items() for name, v in part.state.items()}


def divided(weights: Mapping[str, Tensor], path: Path) -> dict[str, Part]:
    """Return the parts that `joined` put together; ``path`` is for messages."""
    states: dict[str, dict[str, Tensor]] = {}
    for whole, value in weights.items():
        key, _, name = whole.partition("/")
        states.setdefault(key, {})[name] = value
    return {key: Part(key, path, state) for key, state in states.items()}


def _side(path: Path) -> str:
    """Return ``"high"`` or ``"low"``: which of WSI-SAM's decoders a file holds."""
    from napari_histosam.models.checkpoint import read_labels

    stem = path.stem.lower()
    words = re.split(r"[^a-z]+", stem)
    named = {
        side for side, short in (("high", "hr"), ("low", "lr")) if side in stem or short in words
    }
    label = read_labels(path).get(ROLE)
    if label in ("high", "low"):
        if named and label not in named:
            raise InputError(
                f"{path.name} is labelled as the {label}-resolution decoder, which its name "
                "denies: the two decoders seem to be swapped, so give them their own names back."
            )
        return label
    if len(named) != 1:
        raise InputError(
            f"Whether {path.name} is the high- or the low-resolution decoder of WSI-SAM cannot be "
            "told: give it the name it had, net_high.pth or net_low.pth."
        )
    return named.pop()


def _wanted(decoder: str) -> str:
    files = {
        "wsi-sam": "mobile_sam.pt, net_high.pth and net_low.pth",
        "i-medsam": "sam_vit_b_01ec64.pth and the checkpoint of I-MedSAM",
        "ep-sam": "sam_vit_b_01ec64.pth, and the classifier and the decoder of EP-SAM",
    }
    return files[decoder]
