"""Tells network drives from local ones: SQLite's WAL needs memory shared on one machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_REMOTE = {
    "9p",
    "afpfs",
    "afs",
    "ceph",
    "cifs",
    "davfs",
    "fuse.rclone",
    "fuse.sshfs",
    "glusterfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "smb2",
    "smb3",
    "smbfs",
    "webdav",
}
_WINDOWS_REMOTE = 4  # DRIVE_REMOTE of GetDriveTypeW


def on_network(folder: Path) -> bool:
    """Tell whether a folder lies on a network drive, as far as the system says."""
    try:
        place = folder.resolve()
    except OSError:
        return False
    if sys.platform == "win32":
        return _windows(place)
    return _kind(place, _mounts()) in _REMOTE


def _kind(place: Path, mounts: dict[str, str]) -> str:
    """Return the file system of the nearest mount point above ``place``."""
    for at in (place, *place.parents):
        if str(at) in mounts:
            return mounts[str(at)]
    return ""


def _mounts() -> dict[str, str]:
    """Return mount point → kind of file system."""
    if sys.platform == "darwin":
        try:
            done = subprocess.run(
                ["/sbin/mount"], capture_output=True, text=True, timeout=5, check=False
            )
        except (OSError, subprocess.SubprocessError):
            return {}
        return parse_mac_mounts(done.stdout)
    try:
        return parse_linux_mounts(Path("/proc/mounts").read_text("utf-8", errors="replace"))
    except OSError:
        return {}


def parse_linux_mounts(text: str) -> dict[str, str]:
    r"""Read ``/proc/mounts`` (fstab(5): spaces are written as ``\040``)."""
    found = {}
    for line in text.splitlines():
        parts = line.split()
        if len(parts) >= 3:
            point = parts[1]
            for code, sign in (("\\040", " "), ("\\011", "\t"), ("\\134", "\\")):
                point = point.replace(code, sign)
            found[point] = parts[2]
    return found


def parse_mac_mounts(text: str) -> dict[str, str]:
    """Read the output of ``mount`` on macOS: ``//u@host/share on /Volumes/x (smbfs, …)``."""
    found = {}
    for line in text.splitlines():
        head, _, tail = line.rpartition(" (")
        point = head.partition(" on ")[2]
        if point and tail:
            found[point] = tail.split(",")[0].rstrip(")").strip()
    return found


def _windows(place: Path) -> bool:
    drive = os.path.splitdrive(str(place))[0]
    if drive.startswith("\\\\"):
        return True
    import ctypes

    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 (absent where mypy runs on POSIX)
    return int(kernel.GetDriveTypeW(f"{drive}\\")) == _WINDOWS_REMOTE
