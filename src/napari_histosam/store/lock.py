"""The lock that lets one process at a time write a store, freed by the system if it crashes."""

from __future__ import annotations

import errno
import os
import socket
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FAR = 1 << 30  # Windows locks bytes against reading too: lock one beyond the note of the owner
_BUSY = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK}


class LockUnsupported(OSError):
    """The drive cannot lock files."""


class WriterLock:
    """An exclusive lock on a side file.

    Parameters
    ----------
    path : Path
        The side file; made when the lock is taken, removed when it is given back.
    owner : str
        A name that others see while the lock is held.

    Notes
    -----
    ``flock`` belongs to the open file, so that a second window of the same process is kept out
    too, and no fork or exec of ours passes it on by accident (the descriptor is not inheritable).
    """

    def __init__(self, path: Path, owner: str = "") -> None:
        self.path = path
        self.owner = owner
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether this lock is ours now."""
        return self._fd is not None

    def acquire(self) -> bool:
        """Take the lock if it is free; return whether it is ours.

        Raises
        ------
        LockUnsupported
            The drive has no locks.
        OSError
            The side file cannot be made.
        """
        while self._fd is None:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                if not _lock(fd):
                    os.close(fd)
                    return False
            except OSError:
                os.close(fd)
                raise
            # The last owner may have removed the file between our open and our lock.
            if not _same_file(fd, self.path):
                os.close(fd)
                continue
            self._fd = fd
            note = f"{self.owner or 'someone'} on {socket.gethostname()}, process {os.getpid()}"
            os.ftruncate(fd, 0)
            os.write(fd, note.encode())
        return True

    def holder(self) -> str:
        """Return what the present owner wrote about itself; empty if unknown."""
        try:
            return self.path.read_text("utf-8", errors="replace")[:200].strip()
        except OSError:
            return ""

    def release(self) -> None:
        """Give the lock back and remove the side file."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        if sys.platform == "win32":
            # An open file cannot be removed there; a file left behind does no harm.
            _unlock(fd)
            os.close(fd)
            _remove(self.path)
        else:
            _remove(self.path)
            os.close(fd)


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError:
        return


def _same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> bool:
        os.lseek(fd, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno in _BUSY:
                return False
            raise LockUnsupported(error.errno, error.strerror) from error
        finally:
            os.lseek(fd, 0, os.SEEK_SET)
        return True

    def _unlock(fd: int) -> None:
        os.lseek(fd, _FAR, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _BUSY:
                return False
            raise LockUnsupported(error.errno, error.strerror) from error
        return True

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)
