"""Reads the store for the open documents and tells when something changed.

One cheap question decides whether anything is read at all; runs that ended are read
once. Only this file knows how often the store is asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from attrs import define, field

from kernel_lsp.state import ClassRuns
from kernel_lsp.storage import Storage

if TYPE_CHECKING:
    from search_engine.store.records import Run, RunHead
    from search_engine.store.store import Store

IDLE_SECONDS = 0.5
ACTIVE_SECONDS = 0.25
# A lease runs out without anybody writing: active runs are read anew this often.
RECHECK_SECONDS = 3.0

Runs: TypeAlias = Mapping[str, Mapping[str, ClassRuns]]  # by path, by qualified name


@define
class Reader:
    """The store thread's memory: the last counter and the runs that ended."""

    _store: Store | None = None
    _counter: int = -1
    _paths: frozenset[str] = frozenset()
    _read: float = 0.0
    _runs: dict[str, tuple[float, Run]] = field(factory=dict)  # by id, with `updated`

    def look(self, store: Store, paths: frozenset[str], *, force: bool) -> Runs | None:
        """The runs of the files, None where nothing can have changed since the last look."""
        counter = store.change_counter()
        same = store is self._store and counter == self._counter and paths == self._paths
        active = any(run.active for _, run in self._runs.values())
        due = active and time.monotonic() - self._read > RECHECK_SECONDS
        if same and not due and not force:
            return None
        found = {path: self._of_path(store, path) for path in paths}
        self._store, self._counter, self._paths = store, counter, paths
        self._read = time.monotonic()
        kept = {
            run.id
            for of_path in found.values()
            for runs in of_path.values()
            for run in (runs.latest, runs.accepted)
            if run is not None
        }
        self._runs = {run_id: entry for run_id, entry in self._runs.items() if run_id in kept}
        return found

    def _of_path(self, store: Store, path: str) -> dict[str, ClassRuns]:
        latest: dict[str, RunHead] = {}
        accepted: dict[str, RunHead] = {}
        for head in store.heads(path):
            latest.setdefault(head.qualname, head)
            if head.decision == "accepted":
                accepted.setdefault(head.qualname, head)
        recordings = store.recordings(path)
        return {
            qualname: ClassRuns(
                self._run(store, latest[qualname]) if qualname in latest else None,
                self._run(store, accepted[qualname]) if qualname in accepted else None,
                recordings.get(qualname),
            )
            for qualname in {**latest, **recordings}
        }

    def _run(self, store: Store, head: RunHead) -> Run:
        known = self._runs.get(head.id)
        if known is not None and known[0] == head.updated and not known[1].active:
            return known[1]
        run = store.run(head.id)
        self._runs[head.id] = (head.updated, run)
        return run


class Watcher:
    """A task that keeps ``runs`` in step with the store.

    ``paths`` names the files of interest, ``changed`` is awaited after new runs were read,
    ``failed`` with the sentence of a store that cannot be used (None: it can again).
    """

    def __init__(
        self,
        storage: Storage,
        paths: Callable[[], Iterable[str]],
        changed: Callable[[], Awaitable[None]],
        failed: Callable[[str | None], None],
    ) -> None:
        self.runs: Runs = {}
        self._storage = storage
        self._paths = paths
        self._changed = changed
        self._failed = failed
        self._reader = Reader()
        self._wake = asyncio.Event()
        self._force = False
        self._looking = asyncio.Lock()

    @property
    def active(self) -> bool:
        """Whether a run of an open document is not at its end."""
        return any(
            found.latest is not None and found.latest.active
            for of_path in self.runs.values()
            for found in of_path.values()
        )

    def wake(self, *, force: bool = False) -> None:
        """Look soon: a document was opened, or (``force``) the server itself wrote."""
        self._force |= force
        self._wake.set()

    async def run(self) -> None:
        """Look at the store until cancelled."""
        while True:
            force, self._force = self._force, False
            self._wake.clear()
            await self.look(force=force)
            watched = bool(frozenset(self._paths()))
            timeout = (ACTIVE_SECONDS if self.active else IDLE_SECONDS) if watched else None
            try:
                await asyncio.wait_for(self._wake.wait(), timeout)
            except asyncio.TimeoutError:
                continue

    async def look(self, *, force: bool = False) -> None:
        """Read what changed; ``force`` after a write of our own, which no counter shows."""
        from search_engine.errors import StoreError

        async with self._looking:
            paths = frozenset(self._paths())
            # Only looking must not make a data folder.
            if not paths or not self._storage.exists():
                found: Runs | None = {} if self.runs else None
            else:
                try:
                    found = await self._storage.call(
                        lambda store: self._reader.look(store, paths, force=force)
                    )
                    self._failed(None)
                except StoreError as error:
                    self._failed(str(error))
                    return
            if found is None:
                return
            self.runs = found
        await self._changed()
