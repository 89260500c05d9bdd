"""Work on other processes and machines by dask.distributed, with results in order."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from napari_histosam.errors import HistosamError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from distributed import Client, Future

T = TypeVar("T")
R = TypeVar("R")
_CONNECT_S = 10
# Items under way per worker: one at work and one that waits, so that none is ever idle.
_AHEAD = 2
_NAME = "histosam"


class Cluster:
    """Workers that a scheduler knows.

    Parameters
    ----------
    client : Client
        Connected.
    address : str
        Of the scheduler, for messages.
    """

    def __init__(self, client: Client, address: str) -> None:
        self._client = client
        self._address = address

    @property
    def workers(self) -> int:
        """How many workers there are now."""
        return len(self._client.scheduler_info(n_workers=-1)["workers"])

    def in_order(self, func: Callable[[T], R], items: Iterator[T]) -> Iterator[tuple[T, R]]:
        """Yield each item with what ``func`` makes of it on a worker, in the order of the items.

        Items are taken from the iterator as workers become free. An error of ``func`` is raised
        here; what is under way then, or when the iterator is closed, is given up.

        Raises
        ------
        HistosamError
            If workers died at an item again and again, or the scheduler is gone.
        """
        from distributed.scheduler import KilledWorker

        def send(item: T) -> tuple[T, Future]:
            # Not pure: two runs must never share a result, for a model may have been replaced.
            return item, self._client.submit(func, item, pure=False)

        ahead = deque(send(item) for item in islice(items, _AHEAD * max(self.workers, 1)))
        try:
            while ahead:
                item, future = ahead.popleft()
                try:
                    found = future.result()
                except KilledWorker as error:
                    raise HistosamError(
                        "The workers of the scheduler died at the same part several times, perhaps "
                        "for want of memory: give them more, then run the same command to go on."
                    ) from error
                except (OSError, RuntimeError) as error:
                    if isinstance(error, HistosamError) or self._client.status == "running":
                        raise
                    raise HistosamError(_gone(self._address)) from error
                if future.cancelled():
                    raise HistosamError(_gone(self._address))
                ahead.extend(send(following) for following in islice(items, 1))
                yield item, found
        finally:
            self._client.cancel([future for _, future in ahead], force=True)


@contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """Connect to a scheduler for as long as the block lasts.

    Parameters
    ----------
    address : str
        As ``dask scheduler`` prints it, for example ``tcp://10.0.0.1:8786``.

    Raises
    ------
    InputError
        If nothing answers there, or no worker has joined.
    """
    from distributed import Client

    try:
        client = Client(address, timeout=_CONNECT_S, set_as_default=False, name=_NAME)
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        raise InputError(
            f"No scheduler answers at {address}: start one with `dask scheduler`, give the address "
            "that it prints, or leave --scheduler away to work on this machine."
        ) from error
    try:
        found = Cluster(client, address)
        if not found.workers:
            raise InputError(
                f"The scheduler at {address} has no workers: start some with `dask worker "
                f"{address} --nthreads 1`, each where napari-histosam is installed."
            )
        yield found
    finally:
        client.close(timeout=_CONNECT_S)


def kept_on_worker(key: str, make: Callable[[], R]) -> tuple[R, Any]:
    """Return what a worker keeps under a key, made at the first call, and a lock around its use.

    Called in a task. A worker keeps what was asked for last and drops what was asked for before, so
    that models and slides do not pile up.
    """
    from distributed import get_worker

    worker: Any = get_worker()
    shelf = worker.__dict__.setdefault(
        f"{_NAME}_kept", {"lock": Lock(), "key": None, "value": None}
    )
    with shelf["lock"]:
        if shelf["key"] != key:
            shelf["value"] = None
            shelf["value"], shelf["key"] = make(), key
        return shelf["value"], shelf["lock"]


def _gone(address: str) -> str:
    return (
        f"The scheduler at {address} is gone: start it again, then run the same command to go on."
    )
