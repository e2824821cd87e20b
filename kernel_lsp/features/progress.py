"""Work-done progress of searches: one per run, cancellable, at most a report a second."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING

from attrs import define
from lsprotocol import types as lsp

if TYPE_CHECKING:
    from kernel_lsp.session import Session
    from search_engine.store.records import Run

logger = logging.getLogger(__name__)

_REPORT_SECONDS = 1.0


@define
class _Shown:
    token: str
    run_id: str
    path: str
    begun: bool = False
    refused: bool = False
    percentage: int = 0
    message: str = ""
    reported: float = 0.0


class SearchProgress:
    """Shows active runs; a run that ended takes its progress with it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._by_run: dict[str, _Shown] = {}

    def paths(self) -> set[str]:
        """Files whose progress is shown, open or not: they are watched to their end."""
        return {shown.path for shown in self._by_run.values() if not shown.refused}

    def update(self, runs: Iterable[Run]) -> None:
        """Bring what the client shows in step with the runs."""
        if not self._session.capabilities.progress:
            return
        known = {run.id: run for run in runs}
        for run in known.values():
            if run.active:
                self._report(run)
        for run_id in [r for r in self._by_run if r not in known or not known[r].active]:
            self._end(self._by_run.pop(run_id), known.get(run_id))

    def cancelled(self, token: lsp.ProgressToken) -> str | None:
        """The run whose Cancel the user pressed."""
        return next((s.run_id for s in self._by_run.values() if s.token == token), None)

    def _report(self, run: Run) -> None:
        shown = self._by_run.get(run.id)
        if shown is None:
            shown = _Shown(f"kernel-lsp/{run.id}/{uuid.uuid4().hex[:8]}", run.id, run.path)
            self._by_run[run.id] = shown
            self._session.spawn(self._begin(shown, run))
        if not shown.begun:
            return
        from kernel_lsp.presentation import progress_message, progress_share

        now = time.monotonic()
        message = progress_message(run)
        # A percentage that went down would be taken for a bug of the editor's.
        percentage = max(shown.percentage, min(int(100 * progress_share(run)), 99))
        same = message == shown.message and percentage == shown.percentage
        if same or now - shown.reported < _REPORT_SECONDS:
            return
        shown.message, shown.percentage, shown.reported = message, percentage, now
        self._session.server.work_done_progress.report(
            shown.token,
            lsp.WorkDoneProgressReport(message=message, percentage=percentage, cancellable=True),
        )

    async def _begin(self, shown: _Shown, run: Run) -> None:
        progress = self._session.server.work_done_progress
        try:
            await progress.create_async(shown.token)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - a client may refuse for any reason
            logger.info("the client shows no progress: %s", error)
            shown.refused = True
            return
        from kernel_lsp.presentation import progress_message

        progress.begin(
            shown.token,
            lsp.WorkDoneProgressBegin(
                title=f"Optimizing {run.qualname}", cancellable=True, percentage=0,
                message=progress_message(run),
            ),
        )  # fmt: skip
        shown.begun = True
        shown.reported = time.monotonic()
        if self._by_run.get(run.id) is not shown:  # the run ended meanwhile
            self._end(shown, None)

    def _end(self, shown: _Shown, run: Run | None) -> None:
        if not shown.begun:
            return
        progress = self._session.server.work_done_progress
        progress.end(shown.token, lsp.WorkDoneProgressEnd(message=_outcome(run)))
        progress.tokens.pop(shown.token, None)  # pygls keeps them for ever otherwise


def _outcome(run: Run | None) -> str | None:
    if run is None:
        return None
    from kernel_lsp.presentation import result_phrase

    return result_phrase(run) if run.delivery is not None else run.message
