"""Reads and writes model cards: one JSON file per model in a weights folder."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, fields
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, get_args

from napari_histosam.errors import InputError
from napari_histosam.models.cards import Finds, ModelCard, Pixels, PromptKind, Trained, WeightFile
from napari_histosam.models.files import write_bytes_atomic

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_log = logging.getLogger(__name__)
_MAX_CARD_BYTES = 100_000


def read_cards(folders: Iterable[Path]) -> dict[str, ModelCard]:
    """Read the cards of all folders; a later folder's card replaces one of the same name.

    A file that is no card is left out with a warning, so that one bad file cannot take the
    other models away.
    """
    cards: dict[str, ModelCard] = {}
    for folder in folders:
        if not folder.is_dir():
            continue
        for path in sorted(folder.glob("*.json")):
            try:
                card = read_card(path)
            except InputError as error:
                _log.warning("%s", error)
                continue
            cards[card.name] = card
    return cards


def read_card(path: Path) -> ModelCard:
    """Read one card.

    Raises
    ------
    InputError
        If the file is no model card.
    """
    try:
        if path.stat().st_size > _MAX_CARD_BYTES:
            raise ValueError("it is too large")
        data = json.loads(path.read_text("utf-8"))
        if not isinstance(data, dict):
            raise TypeError("it holds no JSON object")
        return card_from_dict(data)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is no model card ({error}): repair or remove it.") from error


def write_card(card: ModelCard, path: Path) -> None:
    """Write a card atomically as JSON."""
    text = json.dumps(card_to_dict(card), indent=2, ensure_ascii=False) + "\n"
    write_bytes_atomic(path, text.encode("utf-8"))


def card_to_dict(card: ModelCard) -> dict[str, Any]:
    """Return a card as JSON-ready values, without the members that are at their default."""
    bare = {f.name: f.default for f in fields(ModelCard)} | {"recipe": {}}
    return {k: v for k, v in asdict(card).items() if v != bare[k]}


def card_from_dict(data: dict[str, Any]) -> ModelCard:
    """Return the card that `card_to_dict` wrote.

    Raises
    ------
    ValueError, TypeError, KeyError
        If members are missing, unknown or of the wrong kind.
    """
    known = {f.name for f in fields(ModelCard)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise ValueError(f"unknown members {', '.join(unknown[:3])}")
    for member in ("name", "decoder", "title", "licence"):
        if not isinstance(data[member], str) or not data[member]:
            raise ValueError(f"{member} must be a text")
    plain = dict(data)
    plain["prompts"] = tuple(data["prompts"])
    if not set(plain["prompts"]) <= set(get_args(PromptKind)):
        raise ValueError(f"prompts must be among {', '.join(get_args(PromptKind))}")
    if data.get("pixels", "imagenet") not in get_args(Pixels):
        raise ValueError(f"pixels must be one of {', '.join(get_args(Pixels))}")
    if data.get("finds") not in (None, *get_args(Finds)):
        raise ValueError(f"finds must be one of {', '.join(get_args(Finds))}")
    for member in ("window_scales", "aliases", "object_px", "classes"):
        if member in data:
            plain[member] = tuple(data[member])
    recipe = data.get("recipe", {})
    if not isinstance(recipe, dict) or not all(isinstance(key, str) for key in recipe):
        raise ValueError("recipe must be names and values")
    plain["files"] = tuple(_weight_file(entry) for entry in data.get("files", ()))
    if data.get("trained") is not None:
        plain["trained"] = _trained(data["trained"])
    return ModelCard(**plain)


def _trained(data: dict[str, Any]) -> Trained:
    found = Trained(**data)
    texts = (found.base, found.base_hash, found.method, found.data, found.verdict)
    if not all(isinstance(text, str) for text in texts) or not isinstance(found.figures, dict):
        raise ValueError("trained must name base, base_hash, method and data")
    return found


def _weight_file(data: dict[str, Any]) -> WeightFile:
    entry = WeightFile(**data)
    # A card may come from a stranger: its file must stay inside the weights folder.
    plain = (PurePosixPath(entry.name).name, PureWindowsPath(entry.name).name)
    if not entry.name or entry.name in {".", ".."} or plain != (entry.name, entry.name):
        raise ValueError(f"{entry.name!r} is no plain file name")
    if entry.url is not None and not entry.url.startswith(("https://", "http://")):
        raise ValueError(f"{entry.url!r} is no web address")
    return entry
