"""The store: what searches write and everybody reads.

A search writes each thing as it happens, so that a killed one goes on where it was. Who is
alive is a lease with a heartbeat, not a pid (a pid means nothing on another host or after
a reboot).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from search_engine import serial
from search_engine.deliver.delivery import Delivery
from search_engine.proposers._base import Branch, Idea
from search_engine.recording import Recording
from search_engine.settings import SearchSettings
from search_engine.store.continuation import (
    ADD_CONFIGURATION,
    ADD_EVENT,
    Continuation,
    choice_of,
    dumped,
)
from search_engine.store.records import (
    ENDED,
    Configuration,
    Decision,
    Environment,
    Status,
)
from search_engine.task import CaptureRequest, Task
from search_engine.verdict import Baseline, BuildInfo, Estimate, Measurement, Verdict

LEASE_SECONDS = 15.0  # a search beats every few seconds; after this it counts as dead


class Store(Continuation):
    """Runs with their ideas, kernels, verdicts, times and events. One per thread.

    Raises StoreError with one sentence wherever the database cannot be used.
    """

    # --- runs -------------------------------------------------------------------------

    def start_run(
        self, request: CaptureRequest, qualname: str, fingerprint: str, settings: SearchSettings
    ) -> tuple[str, bool]:
        """The id of a new run, or of the active one for this class and file already there.

        The second value says whether it is new. An active run that nobody works on (its
        lease ran out) is handed back too: a search process takes it up where it was, if
        the class is still the same; else it is closed and a new run is made.
        """
        now = time.time()
        with self._transaction() as db:
            row = db.execute(
                "SELECT id, fingerprint, lease_until FROM runs WHERE path = ? AND qualname = ? "
                "AND status IN ('queued', 'running')",
                (request.path, qualname),
            ).fetchone()
            if row is not None:
                if row["fingerprint"] == fingerprint or row["lease_until"] > now:
                    return row["id"], False
                db.execute(
                    "UPDATE runs SET status = 'stopped', message = ?, updated = ? WHERE id = ?",
                    ("The class changed before this search was taken up again.", now, row["id"]),
                )
            run_id = time.strftime("%m%d-%H%M%S-", time.localtime(now)) + uuid.uuid4().hex[:4]
            db.execute(
                "INSERT INTO runs (id, path, qualname, fingerprint, request, settings, status, "
                "message, decision, round, created, updated, stop_requested) "
                "VALUES (?, ?, ?, ?, ?, ?, 'queued', 'waiting to start', 'none', 0, ?, ?, 0)",
                (
                    run_id, request.path, qualname, fingerprint, serial.dumps(request),
                    serial.dumps(settings), now, now,
                ),
            )  # fmt: skip
            return run_id, True

    def _update_run(self, run_id: str, **columns: Any) -> None:
        columns["updated"] = time.time()
        assignments = ", ".join(f"{name} = ?" for name in columns)
        with self._transaction() as db:
            db.execute(f"UPDATE runs SET {assignments} WHERE id = ?", (*columns.values(), run_id))

    # --- the lease --------------------------------------------------------------------

    def claim(self, run_id: str, owner: str) -> bool:
        """Take the lease of an active run; False where another live search holds it."""
        now = time.time()
        with self._transaction() as db:
            changed = db.execute(
                "UPDATE runs SET lease_owner = ?, lease_until = ?, status = 'running', "
                "updated = ? WHERE id = ? AND status IN ('queued', 'running') "
                "AND (lease_owner IS ? OR lease_until < ?)",
                (owner, now + LEASE_SECONDS, now, run_id, owner, now),
            ).rowcount
        return changed == 1

    def beat(self, run_id: str, owner: str) -> bool:
        """Renew the lease; False where it is lost and the search must end."""
        with self._transaction() as db:
            changed = db.execute(
                "UPDATE runs SET lease_until = ? WHERE id = ? AND lease_owner = ? "
                "AND status = 'running'",
                (time.time() + LEASE_SECONDS, run_id, owner),
            ).rowcount
        return changed == 1

    # --- what a search writes ---------------------------------------------------------

    def set_task(self, run_id: str, task: Task) -> None:
        """The captured task."""
        self._update_run(run_id, task=serial.dumps(task))

    def set_environment(self, run_id: str, environment: Environment) -> None:
        """What the search runs on."""
        self._update_run(run_id, environment=serial.dumps(environment))

    def set_baseline(self, run_id: str, baseline: Baseline) -> None:
        """Eager and torch.compile, measured before the first kernel."""
        self._update_run(run_id, baseline=serial.dumps(baseline))

    def set_progress(self, run_id: str, round_number: int, message: str) -> None:
        """The round under way and what is being done."""
        self._update_run(run_id, round=round_number, message=message)

    def add_ideas(
        self, run_id: str, round_number: int, proposer: str, ideas: Sequence[Idea]
    ) -> None:
        """A round's ideas, in one write."""
        with self._transaction() as db:
            first = db.execute(
                "SELECT COUNT(*) FROM ideas WHERE run_id = ? AND round = ?",
                (run_id, round_number),
            ).fetchone()[0]
            for position, idea in enumerate(ideas, first):
                db.execute(
                    "INSERT INTO ideas (run_id, round, position, proposer, idea) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (run_id, round_number, position, proposer, serial.dumps(idea)),
                )

    def add_branches(self, run_id: str, idea_id: int, branches: Sequence[Branch]) -> None:
        """All branches of an idea, in one write; marks the idea as branched."""
        now = time.time()
        with self._transaction() as db:
            for position, branch in enumerate(branches):
                db.execute(
                    "INSERT INTO kernels (run_id, idea_id, position, label, source, created) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (run_id, idea_id, position, branch.label, branch.source, now),
                )
            db.execute("UPDATE ideas SET branched = 1 WHERE id = ?", (idea_id,))

    def set_verdict(self, kernel_id: int, verdict: Verdict, builds: Sequence[BuildInfo]) -> None:
        """The verdict; a rejected kernel is finished with it."""
        with self._transaction() as db:
            db.execute(
                "UPDATE kernels SET verdict = ?, builds = ?, finished = ? WHERE id = ?",
                (
                    serial.dumps(verdict),
                    serial.dumps(list(builds)),
                    int(not verdict.accepted),
                    kernel_id,
                ),
            )

    def set_measurement(self, kernel_id: int, measurement: Measurement) -> None:
        """The times on a GPU; the kernel is finished."""
        with self._transaction() as db:
            db.execute(
                "UPDATE kernels SET measurement = ?, finished = 1 WHERE id = ?",
                (serial.dumps(measurement), kernel_id),
            )

    def set_estimate(self, kernel_id: int, estimate: Estimate | None) -> None:
        """The modelled time (None: it cannot be modelled); the kernel is finished."""
        text = dumped(estimate)
        with self._transaction() as db:
            db.execute(
                "UPDATE kernels SET estimate = ?, finished = 1 WHERE id = ?", (text, kernel_id)
            )

    def add_configuration(
        self, kernel_id: int, configuration: Configuration, best: str | None
    ) -> None:
        """A configuration that was tried, once; ``best`` is its source where it leads.

        Both in one write: the kernel is at every moment what its configurations say.
        """
        with self._transaction() as db:
            row = (kernel_id, choice_of(configuration), serial.dumps(configuration))
            added = db.execute(ADD_CONFIGURATION, row).rowcount
            if best is None or not added:
                return
            measurement, estimate = configuration.measurement, configuration.estimate
            db.execute(
                "UPDATE kernels SET template = COALESCE(template, source), source = ?, "
                "verdict = ?, builds = ?, measurement = ?, estimate = ? WHERE id = ?",
                (
                    best, serial.dumps(configuration.verdict),
                    serial.dumps(list(configuration.builds)),
                    dumped(measurement),
                    dumped(estimate), kernel_id,
                ),
            )  # fmt: skip

    def end_sweep(self, kernel_id: int) -> None:
        """No more configurations are tried: the kernel is finished as it stands."""
        with self._transaction() as db:
            db.execute("UPDATE kernels SET finished = 1 WHERE id = ?", (kernel_id,))

    def offer(self, run_id: str, kernel_id: int, delivery: Delivery) -> None:
        """The winner with its files and edit: it waits for a decision."""
        self._update_run(
            run_id, winner_id=kernel_id, delivery=serial.dumps(delivery), decision="pending"
        )

    def finish(self, run_id: str, status: Status, message: str) -> None:
        """The end of a run, with one sentence for the user."""
        assert status in ENDED
        now = time.time()
        with self._transaction() as db:  # together: who sees the end finds its event
            db.execute(
                "UPDATE runs SET status = ?, message = ?, lease_until = 0, updated = ? "
                "WHERE id = ?",
                (status, message, now, run_id),
            )
            db.execute(ADD_EVENT, (run_id, now, "end", message))

    def add_event(self, run_id: str, kind: str, message: str) -> None:
        """One line of the log."""
        with self._transaction() as db:
            db.execute(ADD_EVENT, (run_id, time.time(), kind, message))

    # --- what people do ---------------------------------------------------------------

    def request_stop(self, run_id: str) -> None:
        """Ask the search to end; a run that no process holds ends at once."""
        run = self.run(run_id)
        if run.active and not run.alive:
            self.finish(run_id, "stopped", "Stopped before a search process took it up.")
        elif run.active:
            self._update_run(run_id, stop_requested=1)

    def decide(self, run_id: str, decision: Decision) -> None:
        """Record the user's decision."""
        self._update_run(run_id, decision=decision)

    # --- what ``kernel-lsp record`` saw -----------------------------------------------

    def add_recordings(self, recordings: Sequence[Recording]) -> None:
        """What was recorded of classes, in place of what was recorded of them before."""
        with self._transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO recordings (path, qualname, entry) VALUES (?, ?, ?)",
                [(r.path, r.qualname, serial.dumps(r)) for r in recordings],
            )
