"""Knows all models by name: their cards, where their weights lie, how to fetch and load them."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_histosam import home as places
from napari_histosam.errors import InputError
from napari_histosam.models.catalog import read_cards
from napari_histosam.models.families import check_decoder
from napari_histosam.models.files import HashMemory, file_hash, write_bytes_atomic
from napari_histosam.models.graphics import keep_compiler_out
from napari_histosam.models.loading import load_files
from napari_histosam.models.parts import arranged, is_manifold

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_histosam.models.cards import ModelCard, WeightFile
    from napari_histosam.models.protocols import PromptModel

_log = logging.getLogger(__name__)


class ModelRegistry:
    """All models that this installation knows.

    Cards and weights are looked for in the user's folder ``HOME/weights`` (the only one written
    to), then in the offline folders, then in what the package ships.

    Parameters
    ----------
    home : Path, optional
        Else `napari_histosam.home.home`.
    offline_dirs : sequence of Path, optional
        Read-only folders, for example a site's share; else what the environment variable
        ``HISTOSAM_WEIGHTS`` lists (separated as ``PATH`` is).
    """

    def __init__(
        self, home: Path | None = None, offline_dirs: Sequence[Path | str] | None = None
    ) -> None:
        self._home = Path(home) if home is not None else places.home()
        if offline_dirs is None:
            listed = os.environ.get("HISTOSAM_WEIGHTS", "").split(os.pathsep)
            offline_dirs = [entry for entry in listed if entry]
        self.folder = self._home / "weights"
        self._search = [self.folder, *map(Path, offline_dirs), places.shipped("weights")]
        self._hashes = HashMemory(self._home / "hashes.json")

    def cards(self) -> dict[str, ModelCard]:
        """Return all cards by name, in the order of their names."""
        found = read_cards(reversed(self._search))
        return dict(sorted(found.items()))

    def get(self, name: str) -> ModelCard:
        """Return the card of a name or alias.

        Raises
        ------
        InputError
            If there is none; the sentence lists the names.
        """
        cards = self.cards()
        if name in cards:
            return cards[name]
        for card in cards.values():
            if name in card.aliases:
                return card
        raise InputError(f"No model is called {name!r}: choose one of {', '.join(cards)}.")

    def files(self, name: str) -> list[Path]:
        """Return the paths of a model's weight files, in the card's order.

        Raises
        ------
        InputError
            If a file is missing; the sentence says how to get it.
        """
        card = self.get(name)
        paths = []
        for entry in card.files:
            path = self._find(entry)
            if path is None:
                raise InputError(self._missing(card, entry))
            paths.append(path)
        return paths

    def is_ready(self, name: str) -> bool:
        """Tell whether all weight files of a model, and of its base, are on this machine."""
        card = self.get(name)
        return all(self._find(entry) is not None for entry in card.files) and self._has_base(card)

    def absent(self, name: str) -> list[str]:
        """Return the names of those of a model's files that are not on this machine."""
        return [entry.name for entry in self.get(name).files if self._find(entry) is None]

    def describe(self) -> list[dict[str, Any]]:
        """Return one JSON-ready row per model, as ``histosam models list`` prints them."""
        return [self.describe_one(name) for name in self.cards()]

    def describe_one(self, name: str) -> dict[str, Any]:
        """Return one model's row: its card, whether it is ready, and where its files lie."""
        card = self.get(name)
        found = [self._find(entry) for entry in card.files]
        sizes = [
            path.stat().st_size if path is not None else entry.bytes
            for path, entry in zip(found, card.files, strict=True)
        ]
        known = [size for size in sizes if size is not None]
        return {
            "name": card.name,
            "decoder": card.decoder,
            "ready": None not in found and self._has_base(card),
            "licence": card.licence,
            "mpp": card.mpp,
            "prompts": list(card.prompts),
            "bytes": sum(known) if len(known) == len(sizes) else None,
            "title": card.title,
            "variant": card.variant,
            "window_px": card.window_px,
            "non_commercial": card.non_commercial,
            "needs_consent": self.needs_consent(card.name),
            "aliases": list(card.aliases),
            "files": [str(path) if path is not None else None for path in found],
            "file_names": [entry.name for entry in card.files],
            "urls": [entry.url for entry in card.files],
            "page": card.page,
            "boxes_by": card.boxes_by,
            "finds": card.finds,
            "classes": list(card.classes),
            "note": card.note,
            "trained": None if card.trained is None else asdict(card.trained),
        }

    def load(
        self,
        name: str,
        device: str = "auto",
        files: Sequence[Path | str] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> PromptModel:
        """Load a model.

        Parameters
        ----------
        name : str
            Name or alias. With ``files``, the name of a family (``"sam"``) takes whatever size
            the file has.
        device : str
            ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
        files : sequence of Path, optional
            The user's own weights in place of the card's. Of a model that consists of several
            files, in any order, and without those that are here already.
        say : callable of str, optional
            Gets sentences about the device and memory; without it they are logged.

        Raises
        ------
        InputError
            If the model is unknown, its files are missing, damaged or do not fit, its licence has
            not been accepted, or there is no such device.
        """
        keep_compiler_out()
        card = self.get(name)
        if card.decoder == "classical":
            from napari_histosam.models.classical.model import ClassicalModel

            if files:
                raise InputError("The model classical has no weights: leave the files away.")
            return ClassicalModel(card)
        check_decoder(card)
        if self.needs_consent(card.name) and not files:
            raise InputError(
                f"The weights of {card.name} are for non-commercial use ({card.licence}): accept "
                "their licence first."
            )
        if files is None and card.trained is not None:
            from napari_histosam.models.trained import load_trained

            return load_trained(self, card, device, say)
        if files is None:
            paths = self.files(card.name)
            hashes = list(map(self._checked_hash, card.files, paths))
            return load_files(card, paths, hashes, device, say)
        paths = [Path(file) for file in files]
        for path in paths:
            if not path.is_file():
                raise InputError(f"{path} is no file: check the path of the weights.")
        if is_manifold(card):
            if card.trained is not None:
                raise InputError(
                    f"{card.name} was trained here from {card.trained.base}: leave the files away, "
                    f"or give them to {card.trained.base}."
                )
            paths = arranged(card, paths, self._find)
        elif len(paths) > 1 + (card.decoder == "des-sam"):
            raise InputError(f"{card.name} takes one weights file, not {len(paths)}.")
        others = [] if name == card.name else list(self.cards().values())
        return load_files(card, paths, list(map(self._hashes.sha256, paths)), device, say, others)

    def download(
        self,
        name: str,
        progress: Callable[[int, int | None], None] | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> list[Path]:
        """Fetch the files of a model that are not here yet; return all paths.

        Parameters
        ----------
        name : str
        progress : callable of (bytes done, bytes in all or None), optional
            Counts within the file that is being fetched.
        cancel : callable -> bool, optional

        Raises
        ------
        InputError, HistosamError, Cancelled
            See `napari_histosam.models.weights.fetch`.
        """
        from napari_histosam.models.weights import fetch

        card = self.get(name)
        if self.needs_consent(card.name):
            raise InputError(
                f"The weights of {card.name} are for non-commercial use ({card.licence}): accept "
                "their licence first."
            )
        for entry in card.files:
            if self._find(entry) is not None:
                continue
            if entry.url is None:
                raise InputError(self._missing(card, entry))
            fetch(entry, self.folder, progress, cancel)
        return self.files(card.name)

    def verify(self, name: str | None = None) -> list[dict[str, Any]]:
        """Hash the files that are here and compare them with their cards.

        Returns
        -------
        list of dict
            ``{"name", "file", "path", "status"}`` per file, where status is ``"ok"``,
            ``"missing"``, ``"wrong"`` (not the published file) or ``"unchecked"`` (the card
            states no hash).
        """
        chosen = list(self.cards().values()) if name is None else [self.get(name)]
        rows = []
        for card in chosen:
            for entry in card.files:
                path = self._find(entry, any_size=True)
                status = "missing" if path is None else self._status(entry, path)
                shown = None if path is None else str(path)
                rows.append(
                    {"name": card.name, "file": entry.name, "path": shown, "status": status}
                )
        return rows

    def import_file(self, path: Path | str, name: str | None = None) -> ModelCard:
        """Take a user's checkpoint in: see `import_files`."""
        return self.import_files([path], name)

    def import_files(self, paths: Sequence[Path | str], name: str | None = None) -> ModelCard:
        """Take a user's checkpoint in: copied to the weights folder, with a card beside it.

        Parameters
        ----------
        paths : sequence of Path
            One file, or the parts of one model, together or one after the other.
        name : str, optional
            The model's name; else made from the file's.

        Returns
        -------
        ModelCard
            Of the published model if the file is one, else a new card. `is_ready` tells whether
            parts are still missing.

        Raises
        ------
        InputError
            If it is no checkpoint, belongs to no decoder that there is, or the name is taken.
        """
        from napari_histosam.models.importing import take_in

        return take_in([Path(path) for path in paths], self.folder, self.cards(), name)

    def begin(self, decoder: str, base: str, name: str) -> ModelCard:
        """Make an untrained model of a family, see `napari_histosam.models.beginning.begin`."""
        keep_compiler_out()
        from napari_histosam.models.beginning import begin

        return begin(self, decoder, base, name)

    def export(self, name: str, path: Path | str) -> list[Path]:
        """Write a model in upstream's layout; return the paths of its files.

        Raises
        ------
        InputError, HistosamError
            See `napari_histosam.models.exporting.export`.
        """
        from napari_histosam.models.exporting import export

        return export(self, name, Path(path))

    def sha256(self, path: Path) -> str:
        """Return the SHA-256 of a weights file, remembered while the file stays the same."""
        return self._hashes.sha256(path)

    def needs_consent(self, name: str) -> bool:
        """Tell whether the user has yet to accept the licence of non-commercial weights."""
        card = self.get(name)
        return card.non_commercial and self._accepted().get(card.name) != card.licence

    def accept_licence(self, name: str) -> None:
        """Remember that the user has accepted the licence of a model's weights."""
        card = self.get(name)
        accepted = {**self._accepted(), card.name: card.licence}
        text = json.dumps(accepted, indent=2, sort_keys=True)
        write_bytes_atomic(self._home / "licences.json", text.encode("utf-8"))

    def _accepted(self) -> dict[str, str]:
        try:
            data = json.loads((self._home / "licences.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}

    def _has_base(self, card: ModelCard) -> bool:
        """Tell whether what a trained model builds on is here."""
        seen = {card.name}
        cards = self.cards() if card.trained is not None else {}
        while card.trained is not None:
            base = cards.get(card.trained.base)
            if base is None or base.name in seen or any(map(self._absent, base.files)):
                return False
            seen.add(base.name)
            card = base
        return True

    def _absent(self, entry: WeightFile) -> bool:
        return self._find(entry) is None

    def _find(self, entry: WeightFile, any_size: bool = False) -> Path | None:
        for folder in self._search:
            path = folder / entry.name
            if path.is_file() and (
                any_size or entry.bytes is None or path.stat().st_size == entry.bytes
            ):
                return path
        return None

    def _status(self, entry: WeightFile, path: Path) -> str:
        if entry.bytes is not None and path.stat().st_size != entry.bytes:
            return "wrong"
        if entry.hash is None:
            return "unchecked"
        algorithm, _, known = entry.hash.partition(":")
        return "ok" if file_hash(path, algorithm) == known else "wrong"

    def _checked_hash(self, entry: WeightFile, path: Path) -> str:
        found = self._hashes.sha256(path)
        known = entry.hash or ""
        if known.startswith("sha256:") and known != f"sha256:{found}":
            raise InputError(
                f"{path} is not the published {entry.name} (its hash differs): remove it and fetch "
                "it again, or give your own file with --weights."
            )
        return found

    def _missing(self, card: ModelCard, entry: WeightFile) -> str:
        if card.trained is not None:
            return (
                f"{entry.name} of {card.name} is not in {self.folder}: put it back there, or train "
                "the model again."
            )
        if self._find(replace(entry, bytes=None)) is not None:
            return (
                f"{entry.name} of {card.name} is here but not whole: run `histosam models download "
                f"{card.name}` or copy it again."
            )
        bring = f"bring {entry.name} and run `histosam models import FILE --name {card.name}`"
        if card.finds == "regions" and entry.url is None and not card.page:
            return f"The weights of {card.name} are published nowhere: {bring}, if you have them."
        if entry.url is None:
            where = f" (see {card.page})" if card.page else ""
            return f"The weights of {card.name} are not on this machine: {bring}{where}."
        return (
            f"The weights of {card.name} are not on this machine: run `histosam models download "
            f"{card.name}`, or {bring}."
        )
