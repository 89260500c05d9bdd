"""``histosam models``: cards, licences, weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from napari_histosam.models import ModelCard, ModelRegistry


def add_to(commands: Any) -> ArgumentParser:
    """Declare the command."""
    made: ArgumentParser = commands.add_parser("models", help="models: cards, licences, weights")
    made.add_argument(
        "action",
        nargs="?",
        default="list",
        choices=["list", "info", "download", "verify", "import", "export", "new"],
    )
    made.add_argument("what", nargs="?", metavar="NAME|FILE")
    made.add_argument(
        "more",
        nargs="*",
        type=Path,
        metavar="OUT|FILE",
        help="with export: the file to write, of a model of several files the folder; with import: "
        "the other parts of the same model",
    )
    made.add_argument("--name", help="the name to import a file under, or of the new model")
    made.add_argument(
        "--base", help="with new, whose NAME is a decoder: the model to begin with, then train"
    )
    made.add_argument(
        "--accept-licence",
        action="store_true",
        help="with download: agree, once, to the licence of non-commercial weights",
    )
    return made


def run(args: Namespace) -> tuple[Any, str]:
    """Do the action."""
    from napari_histosam.errors import InputError
    from napari_histosam.models import ModelRegistry

    registry = ModelRegistry()
    if args.action in ("info", "download", "import", "export", "new") and not args.what:
        what = {"import": "a file", "new": "a decoder"}.get(args.action, "a model's name")
        raise InputError(f"histosam models {args.action} needs {what}; see histosam models list.")
    if args.action == "list":
        rows = registry.describe()
        return rows, "\n".join(_line(row) for row in rows)
    if args.action == "verify":
        return _verify(registry, args.what)
    if args.action == "import":
        card = registry.import_files([Path(args.what), *args.more], name=args.name)
        return _row(registry, card.name), _imported(registry, card)
    if len(args.more) > (args.action == "export"):
        raise InputError(
            f"histosam models {args.action} takes one name: leave {args.more[-1]} away."
        )
    if args.action == "new":
        return _new(registry, args.what, args.base, args.name)
    if args.action == "export":
        return _export(registry, args.what, args.more[0] if args.more else None)
    if args.action == "download":
        if args.accept_licence:
            registry.accept_licence(args.what)
        check_licence(registry, args.what)
        registry.download(args.what, _show_progress)
        return _row(registry, args.what), f"{args.what} is ready."
    row = _row(registry, args.what)
    width = max(len(key) for key in row)
    lines = [f"{key:<{width}}  {_plain(value)}" for key, value in row.items()]
    return row, "\n".join(lines)


def check_licence(registry: ModelRegistry, name: str) -> None:
    """Refuse non-commercial weights whose licence the user has not accepted, and say how to."""
    from napari_histosam.errors import InputError

    if registry.needs_consent(name):
        card = registry.get(name)
        raise InputError(
            f"The weights of {card.name} are for non-commercial use ({card.licence}): to agree, "
            f"once, run histosam models download {card.name} --accept-licence."
        )


def _imported(registry: ModelRegistry, card: ModelCard) -> str:
    if registry.is_ready(card.name):
        return f"{card.name} is ready ({card.title})."
    absent = " and ".join(registry.absent(card.name))
    return f"The file is in its place; {card.name} still needs {absent}."


def _export(registry: ModelRegistry, name: str, out: Path | None) -> tuple[Any, str]:
    from napari_histosam.errors import InputError

    if out is None:
        raise InputError("histosam models export needs the file or folder to write: NAME OUT.")
    made = registry.export(name, out)
    size = sum(path.stat().st_size for path in made)
    found = {"name": registry.get(name).name, "out": str(out), "bytes": size}
    found["files"] = [str(path) for path in made]
    return found, exported(name, out, made)


def exported(name: str, out: Path, made: Sequence[Path]) -> str:
    """Return what to say of a model that was written to a file, or to a folder as several."""
    size = sum(path.stat().st_size for path in made) / 1e6
    if made[0] == out:
        return f"{name} was written to {out} as one plain file ({size:.1f} MB)."
    files = " and ".join(path.name for path in made)
    return (
        f"{name} was written to {out} as {files} ({size:.1f} MB); import them together with the "
        "encoder of its base."
    )


def _new(
    registry: ModelRegistry, decoder: str, base: str | None, name: str | None
) -> tuple[Any, str]:
    from napari_histosam.errors import InputError

    if base is None:
        raise InputError("histosam models new needs the model to begin with: --base NAME.")
    card = registry.begin(decoder, base, name or f"{decoder}-on-{base}")
    return _row(registry, card.name), f"{card.name} is there, untrained: histosam train … --model."


def _row(registry: ModelRegistry, name: str) -> dict[str, Any]:
    real = registry.get(name).name
    return registry.describe_one(real)


def _verify(registry: ModelRegistry, name: str | None) -> tuple[Any, str]:
    from napari_histosam.errors import InputError

    rows = registry.verify(name)
    wrong = [
        f"{row['path']} is not the published {row['file']}"
        for row in rows
        if row["status"] == "wrong"
    ]
    if wrong:
        raise InputError(f"{'; '.join(wrong)}: remove it and fetch or copy it again.")
    here = [row for row in rows if row["status"] != "missing"]
    lines = [f"{row['name']:<20} {row['file']:<32} {row['status']}" for row in here]
    return rows, "\n".join(lines) or "No weights are on this machine yet."


def _show_progress(done: int, total: int | None) -> None:
    if sys.stderr.isatty():
        share = f" of {total / 1e6:.0f}" if total else ""
        sys.stderr.write(f"\r{done / 1e6:.0f}{share} MB" + ("\n" if done == total else ""))


def _line(row: dict[str, Any]) -> str:
    state = "ready" if row["ready"] else "weights absent"
    return f"{row['name']:<20} {row['decoder']:<10} {state:<15} {row['licence']}"


def _plain(value: Any) -> str:
    return ", ".join(str(v) for v in value) if isinstance(value, list) else str(value)
