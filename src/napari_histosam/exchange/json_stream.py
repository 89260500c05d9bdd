"""Read the features of a JSON file one by one, in bounded memory, telling where it is broken."""

from __future__ import annotations

import codecs
import json
import zlib
from json import JSONDecodeError
from typing import IO, TYPE_CHECKING, Any

from napari_histosam.errors import InputError
from napari_histosam.exchange.files import SIZE_LIMIT, explained, open_text_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SPACE = " \t\n\r"
_CHUNK = 1 << 20


class FeatureStream:
    """The features of one GeoJSON file, and the members beside them.

    Takes every top-level shape that QuPath reads: a FeatureCollection, an array of features,
    one feature, a bare geometry.

    Parameters
    ----------
    path : Path
        Plain or gzip, UTF-8 with or without a byte-order mark.
    limit : int
        Bytes read at most, after unpacking.

    Attributes
    ----------
    members : dict
        The collection's other members, as far as they have been read.
    """

    def __init__(self, path: Path, limit: int = SIZE_LIMIT):
        self.members: dict[str, Any] = {}
        self._path = path
        self._limit = limit
        self._decoder = json.JSONDecoder(object_pairs_hook=_merge_duplicates)
        self._text = ""
        self._at = 0
        self._line = 1
        self._column = 1
        self._read = 0
        self._ended = False
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()

    def __iter__(self) -> Iterator[Any]:
        """Yield each feature (or bare geometry) as parsed JSON.

        Raises
        ------
        InputError
            If the file cannot be read, is too large, or is not JSON: with line and column.
        """
        with open_text_bytes(self._path) as file:
            first = self._peek(file)
            if first == "":
                raise InputError(f"{self._path.name} is empty; export it again.")
            if first == "[":
                yield from self._array(file)
            elif first == "{":
                yield from self._object(file)
            else:
                self._fail("a GeoJSON file begins with { or [")
            if self._peek(file) != "":
                self._fail("there is more text after the end")

    def _object(self, file: IO[bytes]) -> Iterator[Any]:
        self._at += 1
        features = False
        if self._peek(file) == "}":
            self._at += 1
        else:
            while True:
                if self._peek(file) != '"':
                    self._fail("a member's name in double quotes is missing")
                key = self._value(file)
                if self._peek(file) != ":":
                    self._fail("a : is missing")
                self._at += 1
                if key == "features" and self._peek(file) == "[":
                    features = True
                    yield from self._array(file)
                else:
                    self.members[key] = self._value(file)
                if self._next(file, "}"):
                    break
        if not features:
            if self.members.get("type") == "FeatureCollection" or "type" not in self.members:
                raise InputError(
                    f"{self._path.name} is JSON but holds no features; choose a GeoJSON file."
                )
            yield self.members

    def _array(self, file: IO[bytes]) -> Iterator[Any]:
        self._at += 1
        if self._peek(file) == "]":
            self._at += 1
            return
        while True:
            yield self._value(file)
            if self._next(file, "]"):
                return

    def _next(self, file: IO[bytes], closing: str) -> bool:
        """Step over a comma (False) or the closing bracket (True)."""
        mark = self._peek(file)
        if mark not in (",", closing) or mark == "":
            self._fail(f"a , or {closing} is missing")
        self._at += 1
        return mark == closing

    def _peek(self, file: IO[bytes]) -> str:
        """Return the next character that is not space, or "" at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            if not self._more(file):
                return ""

    def _value(self, file: IO[bytes]) -> Any:
        self._peek(file)
        while True:
            begin = self._at  # reading more drops the text before it
            try:
                value, end = self._decoder.raw_decode(self._text, begin)
            except JSONDecodeError as error:
                # Cut text fails at its end, or in a string that does not end. Reading twice as
                # much each time keeps the retries few.
                cut = len(self._text) - error.pos < 32 or error.msg.startswith("Unterminated")
                if not cut or not self._more(file, len(self._text) - begin):
                    self._fail(_plain(error.msg), self._at + error.pos - begin)
            except RecursionError:
                self._fail("it is nested too deeply")
            else:
                # A number that ends with the text may go on.
                if end < len(self._text) or not self._more(file):
                    self._at += end - begin
                    return value

    def _more(self, file: IO[bytes], least: int = 0) -> bool:
        """Append text, dropping what was used; False at the end of the file."""
        if self._ended:
            return False
        used = self._text[: self._at]
        lines = used.count("\n")
        self._line += lines
        self._column = len(used) - used.rindex("\n") if lines else self._column + len(used)
        try:
            with explained(self._path, "read"):
                data = file.read(max(_CHUNK, least))
        except (EOFError, zlib.error) as error:
            raise InputError(
                f"{self._path.name} is a damaged or cut gzip file; copy it again."
            ) from error
        self._read += len(data)
        if self._read > self._limit:
            raise InputError(
                f"{self._path.name} holds more than {self._limit / 1024**3:.1f} GB; "
                "split it or raise the limit."
            )
        self._ended = not data
        self._text = self._text[self._at :]
        self._at = 0
        try:
            self._text += self._utf8.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            raise InputError(f"{self._path.name} is not UTF-8 text; export it again.") from error
        return not self._ended

    def _fail(self, why: str, at: int | None = None) -> None:
        at = self._at if at is None else at
        before = self._text[:at]
        lines = before.count("\n")
        line = self._line + lines
        column = at - before.rindex("\n") if lines else self._column + at
        raise InputError(
            f"{self._path.name} is not valid JSON at line {line}, column {column}: {why}; "
            "export it again."
        )


def _plain(message: str) -> str:
    return message[:1].lower() + message[1:]


def _merge_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict; of duplicate keys the last wins, but objects are joined.

    Some QuPath versions write ``metadata`` twice in one feature.
    """
    out = dict(pairs)
    if len(out) < len(pairs):
        out = {}
        for key, value in pairs:
            before = out.get(key)
            if isinstance(before, dict) and isinstance(value, dict):
                value = {**before, **value}
            out[key] = value
    return out
