"""Downloads against a real local server: resumed, checked, stopped, and honest when it fails."""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from napari_histosam.errors import Cancelled, HistosamError, InputError
from napari_histosam.models.cards import WeightFile
from napari_histosam.models.weights import fetch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = bytes(range(256)) * 12_000  # 3 MB
BLOCK = 1 << 16  # at most so much is lost when a connection breaks
SHA = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@dataclass
class Site:
    """A server with one file and faults to order."""

    port: int = 0
    content: bytes = CONTENT
    breaks: list[int] = field(default_factory=list)  # cut the n-th answers after so many bytes
    ranges: bool = True
    tag: str | None = '"v1"'
    lengths: bool = True
    status: int = 0
    asked: list[str | None] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/weights.pth"

    def file(self, **changes: object) -> WeightFile:
        fields = {"name": "weights.pth", "url": self.url, "bytes": len(CONTENT), "hash": SHA}
        return WeightFile(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture
def site() -> Iterator[Site]:
    state = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            if state.status:
                self.send_error(state.status)
                return
            start, total = 0, len(state.content)
            match = re.fullmatch(r"bytes=(\d+)-", asked or "")
            fits = self.headers.get("If-Range") in (None, state.tag)
            if match and state.ranges and fits:
                start = int(match[1])
                if start >= total:
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{total}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            else:
                self.send_response(200)
            if state.tag:
                self.send_header("ETag", state.tag)
            if state.lengths:
                self.send_header("Content-Length", str(total - start))
            else:
                self.close_connection = True
            self.end_headers()
            body = state.content[start:]
            if state.breaks:
                body = body[: state.breaks.pop(0)]
                self.close_connection = True
            try:
                self.wfile.write(body)
            except OSError:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def test_plain_download_with_progress(site: Site, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = fetch(site.file(), tmp_path, lambda done, total: seen.append((done, total)))
    assert path == tmp_path / "weights.pth"
    assert path.read_bytes() == CONTENT
    assert [p.name for p in tmp_path.iterdir()] == ["weights.pth"]
    assert seen[0][0] == 0
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [d for d, _ in seen] == sorted(d for d, _ in seen)


def test_what_is_there_already_is_not_fetched(site: Site, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(CONTENT)
    fetch(site.file(), tmp_path)
    assert site.asked == []


def test_a_broken_connection_is_resumed_where_it_broke(site: Site, tmp_path: Path) -> None:
    site.breaks = [1_000_000, 700_000]
    path = fetch(site.file(), tmp_path, pause=0.01)
    assert path.read_bytes() == CONTENT
    assert len(site.asked) == 3
    assert site.asked[0] is None
    first, second = (int(asked.removeprefix("bytes=")[:-1]) for asked in site.asked[1:] if asked)
    assert 1_000_000 - BLOCK < first <= 1_000_000
    assert first + 700_000 - BLOCK < second <= first + 700_000


def test_the_next_call_resumes_what_the_last_one_left(site: Site, tmp_path: Path) -> None:
    site.breaks = [500_000] + [0] * 9
    with pytest.raises(HistosamError, match=r"0\.[45] MB are kept") as caught:
        fetch(site.file(), tmp_path, pause=0.01, attempts=3)
    assert str(tmp_path) in str(caught.value)
    assert not (tmp_path / "weights.pth").exists()
    site.breaks = []
    site.asked.clear()
    assert fetch(site.file(), tmp_path).read_bytes() == CONTENT
    assert len(site.asked) == 1
    assert site.asked[0] is not None
    assert [p.name for p in tmp_path.iterdir()] == ["weights.pth"]


def test_a_file_that_changed_meanwhile_comes_whole(site: Site, tmp_path: Path) -> None:
    site.content, site.breaks = bytes(len(CONTENT)), [500_000] + [0] * 9
    with pytest.raises(HistosamError):
        fetch(site.file(), tmp_path, pause=0.01, attempts=2)
    site.content, site.breaks, site.tag = CONTENT, [], '"v2"'
    assert fetch(site.file(), tmp_path).read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(site: Site, tmp_path: Path) -> None:
    site.ranges, site.breaks = False, [1_000_000]
    assert fetch(site.file(), tmp_path, pause=0.01).read_bytes() == CONTENT


def test_a_server_without_lengths(site: Site, tmp_path: Path) -> None:
    site.lengths = False
    seen: list[int | None] = []
    fetch(site.file(), tmp_path, lambda _, total: seen.append(total))
    assert set(seen) == {None}
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT


def test_a_part_that_is_already_whole_is_only_checked(site: Site, tmp_path: Path) -> None:
    site.breaks = [len(CONTENT) - 1] + [0] * 9
    with pytest.raises(HistosamError):
        fetch(site.file(), tmp_path, pause=0.01, attempts=2)
    (tmp_path / "weights.pth.part").write_bytes(CONTENT)
    site.breaks = []
    assert fetch(site.file(), tmp_path).read_bytes() == CONTENT


def test_a_part_of_unknown_origin_is_not_continued(site: Site, tmp_path: Path) -> None:
    (tmp_path / "weights.pth.part").write_bytes(b"something else")
    assert fetch(site.file(), tmp_path).read_bytes() == CONTENT
    assert site.asked == [None]


def test_a_wrong_hash_removes_the_file_and_says_so_in_one_sentence(
    site: Site, tmp_path: Path
) -> None:
    site.content = CONTENT[:-1] + b"!"
    with pytest.raises(HistosamError, match="its hash differs") as caught:
        fetch(site.file(), tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_hash_keeps_an_older_whole_file(site: Site, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"older")
    site.content = b"wrong"
    with pytest.raises(HistosamError):
        fetch(site.file(), tmp_path)
    assert (tmp_path / "weights.pth").read_bytes() == b"older"


def test_stopping_leaves_no_weights_and_can_be_resumed(site: Site, tmp_path: Path) -> None:
    done = 0

    def progress(now: int, total: int | None) -> None:
        nonlocal done
        done = now

    with pytest.raises(Cancelled, match="can be resumed"):
        fetch(site.file(), tmp_path, progress, lambda: done > 1_000_000)
    assert not (tmp_path / "weights.pth").exists()
    site.asked.clear()
    assert fetch(site.file(), tmp_path).read_bytes() == CONTENT
    assert site.asked[0] is not None


def test_no_network_says_how_to_bring_the_file_by_hand(tmp_path: Path) -> None:
    # Port 9 (discard) of this machine: nobody answers.
    file = WeightFile("weights.pth", "http://127.0.0.1:9/weights.pth", None, SHA)
    with pytest.raises(HistosamError) as caught:
        fetch(file, tmp_path, pause=0.01, attempts=2)
    text = str(caught.value)
    assert "cannot be reached" in text
    assert f"fetch weights.pth on another computer and put it into {tmp_path}" in text
    assert "\n" not in text


@pytest.mark.parametrize("status", [404, 403, 500])
def test_errors_of_the_server(site: Site, tmp_path: Path, status: int) -> None:
    site.status = status
    with pytest.raises(HistosamError, match=str(status)):
        fetch(site.file(), tmp_path)
    assert len(site.asked) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_before_the_download(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(HistosamError, match="no room"):
        fetch(site.file(), tmp_path)


def test_files_without_an_address_are_brought_by_hand(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="histosam models import"):
        fetch(WeightFile("weights.pth"), tmp_path)
