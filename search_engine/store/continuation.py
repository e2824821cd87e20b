"""Runs that have a past: ended ones that go on, and those that another store wrote."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence

from attrs import evolve

from search_engine import serial
from search_engine.errors import StoreError
from search_engine.settings import SearchSettings
from search_engine.store.reader import Reader
from search_engine.store.records import Configuration, Event, IdeaRecord, KernelRecord, Run
from search_engine.task import CaptureRequest

ADD_CONFIGURATION = (
    "INSERT OR IGNORE INTO configurations (kernel_id, choice, entry) VALUES (?, ?, ?)"
)
ADD_EVENT = "INSERT INTO events (run_id, time, kind, message) VALUES (?, ?, ?, ?)"


class Continuation(Reader):
    """Taking up again, moving and inserting whole runs."""

    def reopen(
        self,
        run_id: str,
        settings: SearchSettings | None = None,
        request: CaptureRequest | None = None,
    ) -> None:
        """Let a run that ended go on, with other settings if given; its offer is taken back.

        ``request`` has the module's file as it is now, and where it is.

        Raises StoreError where it has not ended, where its kernel was accepted (the offer
        says what Revert takes out), or where another search of the class is active.
        """
        run = self.run(run_id)
        if run.active:
            raise StoreError(f"Run {run_id} has not ended: it is {run.status}.")
        if run.decision == "accepted":
            raise StoreError(
                f"The kernel of run {run_id} was accepted: revert it first (`kernel-lsp revert "
                f"{run_id}`), or start another search."
            )
        request = request or run.request
        now = time.time()
        try:
            with self._transaction() as db:
                db.execute(
                    "UPDATE runs SET status = 'queued', message = 'waiting to go on', "
                    "stop_requested = 0, decision = 'none', winner_id = NULL, delivery = NULL, "
                    "settings = ?, path = ?, request = ?, updated = ? WHERE id = ?",
                    (
                        serial.dumps(settings or run.settings), request.path,
                        serial.dumps(request), now, run_id,
                    ),
                )  # fmt: skip
                db.execute(ADD_EVENT, (run_id, now, "notice", "Taken up again."))
        except sqlite3.IntegrityError:
            raise StoreError(
                f"Another search of {run.qualname} is active: stop it first, or wait for its end."
            ) from None

    def insert(self, run: Run, events: Sequence[Event]) -> bool:
        """A whole run that another store wrote; False where it is here already.

        All of it or nothing. Raises StoreError where another run has its id.
        """
        try:
            with self._transaction() as db:
                known = db.execute(
                    "SELECT fingerprint, created FROM runs WHERE id = ?", (run.id,)
                ).fetchone()
                if known is not None and tuple(known) == (run.fingerprint, run.created):
                    return False
                db.execute(
                    "INSERT INTO runs (id, path, qualname, fingerprint, request, settings, status, "
                    "message, decision, round, created, updated, stop_requested, task, baseline, "
                    "winner_id, delivery, environment) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, NULL, ?, ?)",
                    (
                        run.id, run.path, run.qualname, run.fingerprint, serial.dumps(run.request),
                        serial.dumps(run.settings), run.status, run.message, run.decision,
                        run.round, run.created, run.updated, dumped(run.task),
                        dumped(run.baseline), dumped(run.delivery), dumped(run.environment),
                    ),
                )  # fmt: skip
                ideas = {record.id: _insert_idea(db, run.id, record) for record in run.ideas}
                kernels = {
                    kernel.id: _insert_kernel(db, run.id, ideas[kernel.idea_id], kernel)
                    for kernel in run.kernels
                }
                if run.winner_id is not None:
                    db.execute(
                        "UPDATE runs SET winner_id = ? WHERE id = ?",
                        (kernels[run.winner_id], run.id),
                    )
                db.executemany(ADD_EVENT, [(run.id, e.time, e.kind, e.message) for e in events])
        except (sqlite3.IntegrityError, OverflowError, UnicodeEncodeError):
            raise StoreError(
                f"Run {run.id} cannot be stored beside those that are here: export it again."
            ) from None
        return True

    def move(self, run_id: str, path: str) -> None:
        """The module's file lies elsewhere now."""
        request = evolve(self.run(run_id).request, path=path)
        with self._transaction() as db:
            db.execute(
                "UPDATE runs SET path = ?, request = ?, updated = ? WHERE id = ?",
                (path, serial.dumps(request), time.time(), run_id),
            )

    def judge_anew(self, run_id: str) -> int:
        """Forget verdicts and times of what passed, and the baseline; how many kernels passed.

        For a run that goes on on another device, whose times do not compare with those so
        far. Rejected kernels stay rejected, sweeps start over.
        """
        with self._transaction() as db:
            passed = "run_id = ? AND json_extract(verdict, '$.accepted')"
            db.execute(
                f"DELETE FROM configurations WHERE kernel_id IN "
                f"(SELECT id FROM kernels WHERE {passed})",
                (run_id,),
            )
            count = db.execute(
                "UPDATE kernels SET source = COALESCE(template, source), template = NULL, "
                "builds = '[]', verdict = NULL, measurement = NULL, estimate = NULL, "
                f"finished = 0 WHERE {passed}",
                (run_id,),
            ).rowcount
            db.execute("UPDATE runs SET baseline = NULL WHERE id = ?", (run_id,))
        return count


def dumped(value: object) -> str | None:
    """JSON of a column that may be empty."""
    return None if value is None else serial.dumps(value)


def _insert_idea(db: sqlite3.Connection, run_id: str, record: IdeaRecord) -> int:
    row = db.execute(
        "INSERT INTO ideas (run_id, round, position, proposer, idea, branched) "
        "VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
        (
            run_id, record.round, record.position, record.proposer, serial.dumps(record.idea),
            int(record.branched),
        ),
    ).fetchone()  # fmt: skip
    return int(row["id"])


def _insert_kernel(db: sqlite3.Connection, run_id: str, idea_id: int, kernel: KernelRecord) -> int:
    row = db.execute(
        "INSERT INTO kernels (run_id, idea_id, position, label, source, builds, verdict, "
        "measurement, estimate, created, finished, template) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            run_id, idea_id, kernel.position, kernel.label, kernel.source,
            serial.dumps(list(kernel.builds)), dumped(kernel.verdict),
            dumped(kernel.measurement), dumped(kernel.estimate), kernel.created,
            int(kernel.finished), kernel.template,
        ),
    ).fetchone()  # fmt: skip
    for tried in kernel.configurations:
        db.execute(ADD_CONFIGURATION, (row["id"], choice_of(tried), serial.dumps(tried)))
    return int(row["id"])


def choice_of(tried: Configuration) -> str:
    """What tells a kernel's configurations apart."""
    return json.dumps(tried.values, sort_keys=True)
