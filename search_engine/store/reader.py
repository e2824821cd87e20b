"""What everybody reads from the store. Free of torch."""

from __future__ import annotations

import functools
import json
import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from search_engine import serial
from search_engine.deliver.delivery import Delivery
from search_engine.errors import StoreError
from search_engine.proposers._base import Idea
from search_engine.recording import Recording
from search_engine.settings import SearchSettings
from search_engine.store.database import Database
from search_engine.store.records import (
    Configuration,
    Environment,
    Event,
    IdeaRecord,
    KernelRecord,
    Run,
    RunHead,
)
from search_engine.task import CaptureRequest, Task
from search_engine.verdict import Baseline, BuildInfo, Estimate, Measurement, Verdict


def _optional(text: str | None, kind: type[Any]) -> Any:
    return None if text is None else serial.loads(text, kind)


@functools.lru_cache(maxsize=512)  # an editor asks for the same ones again and again
def _recording(entry: str) -> Recording:
    return serial.loads(entry, Recording)


class Reader(Database):
    """Runs with their ideas, kernels, verdicts, times and events, as they stand."""

    def run_ids(self, path: str | None = None) -> list[str]:
        """Ids of runs, newest first, of one file or of all."""
        where, values = ("WHERE path = ?", (path,)) if path is not None else ("", ())
        with self._translated():
            rows = self._db.execute(
                f"SELECT id FROM runs {where} ORDER BY created DESC", values
            ).fetchall()
        return [row["id"] for row in rows]

    def heads(self, path: str) -> list[RunHead]:
        """The runs of one file, newest first, as little as an editor's poll needs."""
        with self._translated():
            rows = self._db.execute(
                "SELECT id, qualname, status, decision, updated FROM runs WHERE path = ? "
                "ORDER BY created DESC",
                (path,),
            ).fetchall()
        return [RunHead(*row) for row in rows]

    def latest(self, path: str, qualname: str) -> Run | None:
        """The newest run of a class, whatever its state."""
        with self._translated():
            row = self._db.execute(
                "SELECT id FROM runs WHERE path = ? AND qualname = ? ORDER BY created DESC LIMIT 1",
                (path, qualname),
            ).fetchone()
        return None if row is None else self.run(row["id"])

    def run(self, run_id: str) -> Run:
        """A whole run. Raises StoreError where there is none of that id."""
        with self._translated():
            # One read transaction, so that ideas and kernels belong to the same moment.
            self._db.execute("BEGIN")
            try:
                row = self._db.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
                ideas = self._db.execute(
                    "SELECT * FROM ideas WHERE run_id = ? ORDER BY round, position", (run_id,)
                ).fetchall()
                kernels = self._db.execute(
                    "SELECT * FROM kernels WHERE run_id = ? ORDER BY id", (run_id,)
                ).fetchall()
                tried = self._db.execute(
                    "SELECT kernel_id, entry FROM configurations WHERE kernel_id IN "
                    "(SELECT id FROM kernels WHERE run_id = ?) ORDER BY id",
                    (run_id,),
                ).fetchall()
            finally:
                self._db.execute("COMMIT")
        if row is None:
            raise StoreError(f"There is no run {run_id!r}: `kernel-lsp runs` lists them.")
        configurations: dict[int, list[Configuration]] = {}
        for entry in tried:
            found = serial.loads(entry["entry"], Configuration)
            configurations.setdefault(entry["kernel_id"], []).append(found)
        return Run(
            id=row["id"],
            path=row["path"],
            qualname=row["qualname"],
            fingerprint=row["fingerprint"],
            request=serial.loads(row["request"], CaptureRequest),
            settings=serial.loads(row["settings"], SearchSettings),
            status=row["status"],
            message=row["message"],
            decision=row["decision"],
            round=row["round"],
            created=row["created"],
            updated=row["updated"],
            stop_requested=bool(row["stop_requested"]),
            task=_optional(row["task"], Task),
            baseline=_optional(row["baseline"], Baseline),
            ideas=tuple(self._idea(r) for r in ideas),
            kernels=tuple(self._kernel(r, configurations.get(r["id"], ())) for r in kernels),
            winner_id=row["winner_id"],
            delivery=_optional(row["delivery"], Delivery),
            alive=row["status"] == "running" and row["lease_until"] > time.time(),
            environment=_optional(row["environment"], Environment),
        )

    @staticmethod
    def _idea(row: sqlite3.Row) -> IdeaRecord:
        return IdeaRecord(
            id=row["id"],
            round=row["round"],
            position=row["position"],
            proposer=row["proposer"],
            idea=serial.loads(row["idea"], Idea),
            branched=bool(row["branched"]),
        )

    @staticmethod
    def _kernel(row: sqlite3.Row, configurations: Sequence[Configuration]) -> KernelRecord:
        return KernelRecord(
            id=row["id"],
            idea_id=row["idea_id"],
            position=row["position"],
            label=row["label"],
            source=row["source"],
            builds=tuple(
                serial.loads(json.dumps(item), BuildInfo) for item in json.loads(row["builds"])
            ),
            verdict=_optional(row["verdict"], Verdict),
            measurement=_optional(row["measurement"], Measurement),
            estimate=_optional(row["estimate"], Estimate),
            created=row["created"],
            finished=bool(row["finished"]),
            template=row["template"],
            configurations=tuple(configurations),
        )

    def stop_requested(self, run_id: str) -> bool:
        """Whether somebody asked the search to end."""
        with self._translated():
            row = self._db.execute(
                "SELECT stop_requested FROM runs WHERE id = ?", (run_id,)
            ).fetchone()
        return row is None or bool(row["stop_requested"])

    def lease_until(self, run_id: str) -> float:
        """Unix time until which a search process holds the run; 0 where none does."""
        with self._translated():
            row = self._db.execute(
                "SELECT lease_until FROM runs WHERE id = ?", (run_id,)
            ).fetchone()
        return 0.0 if row is None else float(row["lease_until"])

    def events(self, run_id: str, after: int = 0) -> list[Event]:
        """The log's lines with an id above ``after``."""
        with self._translated():
            rows = self._db.execute(
                "SELECT * FROM events WHERE run_id = ? AND id > ? ORDER BY id", (run_id, after)
            ).fetchall()
        return [Event(r["id"], r["run_id"], r["time"], r["kind"], r["message"]) for r in rows]

    def recordings(self, path: str) -> dict[str, Recording]:
        """What was last recorded of the classes of a file, by qualified name."""
        with self._translated():
            rows = self._db.execute(
                "SELECT qualname, entry FROM recordings WHERE path = ?", (path,)
            ).fetchall()
        return {row["qualname"]: _recording(row["entry"]) for row in rows}
