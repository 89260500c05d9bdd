"""Parses the command line, runs the command, turns errors into one line and an exit status."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

from napari_histosam import __version__
from napari_histosam.cli import app, convert, demo, info, models, segment
from napari_histosam.errors import Cancelled, HistosamError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = (app, demo, info, models, segment, convert)
DONE, OURS, INPUT, STOPPED = 0, 1, 2, 130


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, with the exit status of bad input."""

    def error(self, message: str) -> Any:
        self.exit(INPUT, f"{self.prog}: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    made = _Parser(
        prog="histosam",
        description="Prompt, correct and export objects on whole-slide images.",
    )
    made.add_argument("--version", action="version", version=f"histosam {__version__}")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        sub = command.add_to(commands)
        sub.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
        sub.add_argument(
            "--debug", action="store_true", help="show the full trace of an unexpected error"
        )
        sub.set_defaults(run=command.run)
    return made


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    int
        0 done, 1 our fault, 2 the input is at fault, 130 stopped by Ctrl+C.
    """
    args = parser().parse_args(argv)
    try:
        result, text = args.run(args)
        print(json.dumps(result) if args.json else text, flush=True)  # noqa: T201
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


def _tell(what: object, status: int) -> int:
    line = " ".join(str(what).split())
    sys.stderr.write(f"histosam: {line}\n")
    return status
