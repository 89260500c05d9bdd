"""Parses the command line, runs the command, turns errors into one line and an exit status."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

from napari_histosam import __version__
from napari_histosam.cli import (
    app,
    convert,
    dataset,
    demo,
    evaluate,
    info,
    models,
    patches,
    predict,
    segment,
    train,
)
from napari_histosam.errors import Cancelled, HistosamError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = (
    app,
    demo,
    info,
    models,
    segment,
    predict,
    evaluate,
    dataset,
    patches,
    train,
    convert,
)
DONE, OURS, INPUT, STOPPED = 0, 1, 2, 130


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, with the exit status of bad input."""

    def error(self, message: str) -> NoReturn:
        self.exit(INPUT, f"{self.prog}: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    made = _Parser(
        prog="histosam",
        description="Prompt, correct and export objects on whole-slide images.",
    )
    made.add_argument("--version", action="version", version=f"histosam {__version__}")
    made.set_defaults(json=False, debug=False)
    _add_common(made)
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        sub = command.add_to(commands)
        _add_common(sub)
        sub.set_defaults(run=command.run)
    return made


def _add_common(to: argparse.ArgumentParser) -> None:
    # Suppressed, so that a command's default does not undo what stands before the command.
    to.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS,
        help="print the result as JSON on stdout",
    )
    to.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show the full trace of an unexpected error",
    )


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    int
        0 done, 1 our fault, 2 the input is at fault, 130 stopped by Ctrl+C.
    """
    try:
        args = parser().parse_args(argv)
    except SystemExit as left:  # --help, --version, or a line that cannot be understood
        return left.code if isinstance(left.code, int) else DONE
    try:
        # Whatever a library prints must not get between a script and its JSON.
        with contextlib.redirect_stdout(sys.stderr):
            result, text = args.run(args)
        _print(json.dumps(result, allow_nan=False) if args.json else text)
        return DONE
    except InputError as error:
        return _tell(error, INPUT)
    except (KeyboardInterrupt, Cancelled):
        return _tell("stopped; nothing half-done is left", STOPPED)
    except BrokenPipeError:
        # The reader (head, less) has seen enough; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except HistosamError as error:
        return _tell(error, OURS)
    except Exception as error:  # noqa: BLE001 - the user gets one line, --debug the trace
        if args.debug:
            traceback.print_exc()
        return _tell(f"unexpected {type(error).__name__}: {error} (--debug shows more)", OURS)


def _print(text: str) -> None:
    # Not every console knows every letter of a slide's or a model's name.
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)  # noqa: T201


def _tell(what: object, status: int) -> int:
    line = " ".join(str(what).split())
    sys.stderr.write(f"histosam: {line}\n")
    return status
