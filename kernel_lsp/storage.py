"""The store on a thread of its own: the event loop never waits for a disk or a lock.

A connection belongs to one thread. The thread is a daemon: a database that is locked by
another program must not hold up the server's exit.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from search_engine.store.store import Store

T = TypeVar("T")


class Storage:
    """Runs functions of the store in order, one at a time.

    The store opens with the first function and again where its file was replaced or the
    last function failed, so that a database moved away or mended is found.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._work: queue.SimpleQueue[tuple[Callable[[Store], Any], Any] | None]
        self._work = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._store: Store | None = None
        self._inode: int | None = None

    async def call(self, function: Callable[[Store], T]) -> T:
        """The function's result. Raises StoreError where the store cannot be used."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="store", daemon=True)
            self._thread.start()

        def answer(result: T | None, error: BaseException | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def deliver(result: T | None, error: BaseException | None) -> None:
            try:
                loop.call_soon_threadsafe(answer, result, error)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more

        self._work.put((function, deliver))
        return await future

    def exists(self) -> bool:
        """Whether there is a database yet; looking must not make one."""
        return self.path.exists()

    def close(self) -> None:
        """End the thread after what it does now."""
        if self._thread is not None:
            self._work.put(None)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            function, deliver = item
            try:
                result = function(self._opened())
            except BaseException as error:  # noqa: BLE001 - goes to whoever asked
                self._close()
                deliver(None, error)
            else:
                deliver(result, None)
        self._close()

    def _opened(self) -> Store:
        from search_engine.store.store import Store

        if self._store is not None and self._inode != _inode(self.path):
            self._close()
        if self._store is None:
            self._store = Store(self.path)
            self._inode = _inode(self.path)
        return self._store

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
