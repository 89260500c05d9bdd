"""Fetches weight files: through pooch, resumed after a break, checked, whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import Cancelled, HistosamError, InputError
from napari_histosam.models.files import write_bytes_atomic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import requests

    from napari_histosam.models.cards import WeightFile

    Progress = Callable[[int, int | None], None]
    Cancel = Callable[[], bool]

_CHUNK = 1 << 16
_TIMEOUT = (15.0, 60.0)


def fetch(
    file: WeightFile,
    folder: Path,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    *,
    attempts: int = 5,
    pause: float = 1.0,
) -> Path:
    """Download one file into a folder and return its path.

    What has arrived is kept in ``NAME.part`` when the connection breaks or the user stops, and the
    next call goes on from there.

    Parameters
    ----------
    file : WeightFile
    folder : Path
    progress : callable of (bytes done, bytes in all or None), optional
    cancel : callable -> bool, optional
        Asked between blocks; true stops the download.
    attempts : int
        Tries in a row that bring nothing before it gives up.
    pause : float
        Seconds between tries, growing.

    Raises
    ------
    InputError
        If the file has no address.
    HistosamError
        If there is no connection, the disk is full, or the hash does not fit (nothing is kept).
    Cancelled
        If ``cancel`` said so.
    """
    import pooch

    # It names each address on stderr; who asked for the file is told by the progress instead.
    pooch.get_logger().setLevel("WARNING")
    if file.url is None:
        raise InputError(
            f"{file.name} cannot be fetched by the program: get it from its authors and hand it in "
            "with `histosam models import FILE`."
        )
    folder.mkdir(parents=True, exist_ok=True)
    downloader = _Resuming(file, folder, progress, cancel, attempts, pause)
    try:
        pooch.retrieve(
            url=file.url,
            known_hash=file.hash,
            fname=file.name,
            path=folder,
            downloader=downloader,
        )
    except ValueError as error:
        downloader.forget()
        raise HistosamError(
            f"{file.name} from {file.url} is not the published file (its hash differs) and was "
            f"removed: try again, or {_by_hand(file, folder)}."
        ) from error
    except OSError as error:
        raise HistosamError(_disk_trouble(file, folder, error)) from error
    downloader.forget()
    return folder / file.name


@dataclass
class _Resuming:
    """A downloader for pooch that keeps what has arrived and asks only for the rest."""

    file: WeightFile
    folder: Path
    progress: Progress | None
    cancel: Cancel | None
    attempts: int
    pause: float

    def __post_init__(self) -> None:
        self.part = self.folder / f"{self.file.name}.part"
        self.note = self.folder / f"{self.file.name}.part.json"

    def __call__(self, url: str, output_file: Any, pooch: Any, check_only: bool = False) -> None:
        """Fetch ``url`` and move it to ``output_file`` (a path: pooch's temporary file)."""
        import requests

        failures = 0
        while True:
            before = self._have()
            try:
                self._get(url)
                break
            except requests.HTTPError as error:
                code = "?" if error.response is None else error.response.status_code
                raise HistosamError(
                    f"{url} answered with error {code}: try later, or "
                    f"{_by_hand(self.file, self.folder)}."
                ) from error
            except (requests.RequestException, _Broken) as error:
                failures = 1 if self._have() > before else failures + 1
                if failures >= self.attempts:
                    raise HistosamError(self._no_connection(url)) from error
                self._wait(self.pause * failures)
        os.replace(self.part, output_file)

    def forget(self) -> None:
        """Remove what was kept for resuming."""
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def _get(self, url: str) -> None:
        import requests

        headers = {"Accept-Encoding": "identity"}
        validator = self._validator(url)
        have = self._have()  # after the validator, which drops bytes of unknown origin
        if have:
            headers["Range"] = f"bytes={have}-"
            if validator:  # a file that has changed since comes whole
                headers["If-Range"] = validator
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
            if answer.status_code == 416:
                # Nothing is left to send, or the file became shorter.
                total = _total_of(answer)
                if total == have:
                    return
                self.forget()
                raise _Broken("the file on the server has changed")
            answer.raise_for_status()
            if answer.status_code != 206 or _start_of(answer) != have:
                have = 0
            total = _length(answer)
            total = None if total is None else total + have
            self._make_room(total, have)
            self._remember(url, answer)
            self._store(answer, have, total)

    def _store(self, answer: requests.Response, have: int, total: int | None) -> None:
        with self.part.open("ab" if have else "wb") as out:
            self._report(have, total)
            for chunk in answer.iter_content(_CHUNK):
                self._stop_if_asked()
                out.write(chunk)
                have += len(chunk)
                self._report(have, total)
            out.flush()
            os.fsync(out.fileno())
        if total is not None and have < total:
            raise _Broken("the connection ended early")

    def _have(self) -> int:
        try:
            return self.part.stat().st_size
        except FileNotFoundError:
            return 0

    def _validator(self, url: str) -> str | None:
        try:
            note = json.loads(self.note.read_text("utf-8"))
            if note["url"] == url:
                return str(note["validator"]) if note["validator"] else None
        except (OSError, ValueError, KeyError, TypeError):
            pass
        if self._have():  # bytes of unknown origin cannot be continued
            self.forget()
        return None

    def _remember(self, url: str, answer: requests.Response) -> None:
        tag = answer.headers.get("ETag", "")
        strong = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")
        note = {"url": url, "validator": strong}
        write_bytes_atomic(self.note, json.dumps(note).encode())

    def _make_room(self, total: int | None, have: int) -> None:
        if total is None:
            return
        free = shutil.disk_usage(self.folder).free
        if free < total - have:
            raise OSError(errno.ENOSPC, "not enough space")

    def _report(self, done: int, total: int | None) -> None:
        if self.progress is not None:
            self.progress(done, total)

    def _stop_if_asked(self) -> None:
        if self.cancel is not None and self.cancel():
            raise Cancelled(f"The download of {self.file.name} was stopped; it can be resumed.")

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._stop_if_asked()
            time.sleep(min(0.1, max(0.0, end - time.monotonic())))

    def _no_connection(self, url: str) -> str:
        have = self._have()
        kept = f" ({have / 1e6:.1f} MB are kept and will be resumed)" if have else ""
        return f"{url} cannot be reached{kept}: try again, or {_by_hand(self.file, self.folder)}."


class _Broken(Exception):
    """The answer ended before the file did."""


def _by_hand(file: WeightFile, folder: Path) -> str:
    return f"fetch {file.name} on another computer and put it into {folder}"


def _disk_trouble(file: WeightFile, folder: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        size = f" ({file.bytes / 1e6:.0f} MB)" if file.bytes else ""
        return f"There is no room for {file.name}{size} in {folder}: make room and try again."
    reason = error.strerror or str(error)
    return f"{folder} cannot be written ({reason}): choose another HISTOSAM_HOME."


def _length(answer: requests.Response) -> int | None:
    text = answer.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _start_of(answer: requests.Response) -> int | None:
    text = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(text) if text.isdigit() else None


def _total_of(answer: requests.Response) -> int | None:
    text = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(text) if text.isdigit() else None
