"""Starting searches, taking up interrupted ones, and noticing those that died."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kernel_lsp.storage import Storage
from search_engine.errors import SetupError

if TYPE_CHECKING:
    from search_engine.settings import SearchSettings
    from search_engine.store.records import Run
    from search_engine.store.store import Store
    from search_engine.task import CaptureRequest

logger = logging.getLogger(__name__)

# A queued run belongs to whoever clicked for this long: a search process imports torch
# before it takes the lease.
GRACE_SECONDS = 20.0
_TAKEN_UP = 3  # processes per run and server: what crashes every time is not started for ever
_KILL_SECONDS = 60.0  # from Stop to SIGKILL; a search ends by itself after its kernel


class Processes(Protocol):
    """What starts search processes: ``engine.Engine``, or a fake in tests."""

    interpreter: str

    def start(self, run_id: str) -> None:
        """Start the process of a run. Raises SetupError."""

    def running(self, run_id: str) -> bool:
        """Whether the process started here is there."""

    def killed(self, run_id: str) -> bool:
        """Whether a signal ended it."""

    def failure(self, run_id: str) -> str | None:
        """One sentence on why it ended, None where it did not or ended well."""

    def kill(self, run_id: str) -> bool:
        """End it at once."""


class Searches:
    """The searches that this server has to do with."""

    def __init__(self, storage: Storage, engine: Processes, notify: Callable[[str], None]) -> None:
        self._storage = storage
        self._engine = engine
        self._notify = notify
        self._starts: Counter[str] = Counter()
        self._stops: dict[str, float] = {}  # run id: when Stop was asked for here

    async def start(
        self, request: CaptureRequest, qualname: str, fingerprint: str, settings: SearchSettings
    ) -> str:
        """Start a search, or join the one that is active for this class; returns its id.

        Raises StoreError and SetupError.
        """

        def begin(store: Store) -> tuple[str, bool]:
            return store.start_run(request, qualname, fingerprint, settings)

        run_id, new = await self._storage.call(begin)
        if new:
            await self._launch(run_id)
        else:
            run = await self._storage.call(lambda store: store.run(run_id))
            if self._unattended(run):
                await self._launch(run_id)
        return run_id

    async def _launch(self, run_id: str) -> None:
        self._starts[run_id] += 1
        try:
            self._engine.start(run_id)
        except SetupError as error:
            await self._fail(run_id, str(error))
            raise

    async def resume(self, run_id: str, request: CaptureRequest) -> None:
        """Let a search that ended go on, on the file as it is now.

        Raises StoreError, SetupError.
        """
        await self._storage.call(lambda store: store.reopen(run_id, request=request))
        self._starts[run_id] = 0
        await self._launch(run_id)

    async def stop(self, run_id: str) -> None:
        """Ask a search to end. Raises StoreError."""
        await self._storage.call(lambda store: store.request_stop(run_id))
        self._stops[run_id] = time.monotonic()

    async def tend(self, runs: Iterable[Run]) -> bool:
        """Take up what nobody works on, close what died; whether the store was changed."""
        wrote = False
        for run in runs:
            if run.active:
                wrote |= await self._tend(run)
            else:
                self._stops.pop(run.id, None)
        return wrote

    async def _tend(self, run: Run) -> bool:
        asked = self._stops.get(run.id)
        if asked is not None and time.monotonic() - asked > _KILL_SECONDS:
            if self._engine.kill(run.id):
                logger.warning("search %s did not stop and was killed", run.id)
            del self._stops[run.id]
        if run.alive or self._engine.running(run.id):
            return False
        failure = self._engine.failure(run.id)
        if run.stop_requested:
            return await self._fail(run.id, "Stopped.", status="stopped")
        if failure is not None and not self._may_resume(run):
            self._notify(f"{run.qualname}: {failure}")
            return await self._fail(run.id, failure)
        if failure is not None or self._unattended(run):
            if self._starts[run.id] >= _TAKEN_UP:
                reason = "The search process ended several times: `kernel-lsp doctor` checks why."
                self._notify(f"{run.qualname}: {reason}")
                return await self._fail(run.id, reason)
            logger.info("taking up search %s", run.id)
            try:
                await self._launch(run.id)
            except SetupError as error:
                self._notify(f"{run.qualname}: {error}")
                return True
        return False

    def _may_resume(self, run: Run) -> bool:
        return self._engine.killed(run.id) and self._starts[run.id] < _TAKEN_UP

    def _unattended(self, run: Run) -> bool:
        """Whether no process has the run and none is about to."""
        if run.alive or self._engine.running(run.id):
            return False
        if run.status == "running":
            return True
        return self._starts[run.id] > 0 or time.time() - run.updated > GRACE_SECONDS

    async def _fail(self, run_id: str, message: str, status: str = "failed") -> bool:
        def close(store: Store) -> bool:
            run = store.run(run_id)
            if not run.active or run.alive:
                return False  # another server's process was faster
            store.finish(run_id, status, message)  # type: ignore[arg-type]
            return True

        return await self._storage.call(close)


def project_file(path: str) -> str:
    """A file's name in the store: absolute, without symbolic links."""
    return str(Path(path).resolve())
