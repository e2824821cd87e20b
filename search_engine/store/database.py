"""The one door to SQLite: opening, migrating, transactions, errors as sentences.

One database in the user's data folder, in WAL mode, holds everything that server,
command line and searches share; readers poll ``change_counter``.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from search_engine.data_folder import data_folder
from search_engine.errors import StoreError

if TYPE_CHECKING:
    from typing_extensions import Self

BUSY_SECONDS = 10.0  # how long a write waits for another process's

# One entry per version of the schema: what leads there from the version before.
_MIGRATIONS = ("""
CREATE TABLE runs (
    id TEXT PRIMARY KEY, path TEXT NOT NULL, qualname TEXT NOT NULL, fingerprint TEXT NOT NULL,
    request TEXT NOT NULL, settings TEXT NOT NULL, status TEXT NOT NULL, message TEXT NOT NULL,
    decision TEXT NOT NULL, round INTEGER NOT NULL, created REAL NOT NULL, updated REAL NOT NULL,
    stop_requested INTEGER NOT NULL, task TEXT, baseline TEXT, winner_id INTEGER, delivery TEXT,
    lease_owner TEXT, lease_until REAL NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX one_active_run ON runs (path, qualname)
    WHERE status IN ('queued', 'running');
CREATE TABLE ideas (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    round INTEGER NOT NULL, position INTEGER NOT NULL, proposer TEXT NOT NULL,
    idea TEXT NOT NULL, branched INTEGER NOT NULL DEFAULT 0,
    UNIQUE (run_id, round, position)
) STRICT;
CREATE TABLE kernels (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    idea_id INTEGER NOT NULL REFERENCES ideas ON DELETE CASCADE, position INTEGER NOT NULL,
    label TEXT NOT NULL, source TEXT NOT NULL, builds TEXT NOT NULL DEFAULT '[]',
    verdict TEXT, measurement TEXT, estimate TEXT, created REAL NOT NULL,
    finished INTEGER NOT NULL DEFAULT 0,
    UNIQUE (idea_id, position)
) STRICT;
CREATE INDEX kernels_of_run ON kernels (run_id);
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    time REAL NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL
) STRICT;
CREATE INDEX events_of_run ON events (run_id);
CREATE TABLE model_calls (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    time REAL NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL, purpose TEXT NOT NULL,
    input_tokens INTEGER, output_tokens INTEGER, cost REAL, seconds REAL,
    prompt TEXT NOT NULL, reply TEXT
) STRICT;
""", """
ALTER TABLE kernels ADD COLUMN template TEXT;
CREATE TABLE configurations (
    id INTEGER PRIMARY KEY, kernel_id INTEGER NOT NULL REFERENCES kernels ON DELETE CASCADE,
    choice TEXT NOT NULL, entry TEXT NOT NULL,
    UNIQUE (kernel_id, choice)
) STRICT;
""", """
ALTER TABLE runs ADD COLUMN environment TEXT;
""", """
CREATE TABLE recordings (
    path TEXT NOT NULL, qualname TEXT NOT NULL, entry TEXT NOT NULL,
    PRIMARY KEY (path, qualname)
) STRICT;
""")  # fmt: skip
SCHEMA_VERSION = len(_MIGRATIONS)


class Database:
    """An open database. Not shared between threads: open one each.

    Raises StoreError with one sentence wherever the database cannot be used.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or data_folder() / "kernel-lsp.db"
        _make_private(self.path.parent)
        with self._translated():
            self._db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._write_ahead()
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._migrate()

    def _write_ahead(self) -> None:
        """Switch to WAL mode.

        SQLite does not wait for other connections here, whatever the timeout says (it would
        risk a deadlock), so that two that create the database at once have to be patient.
        """
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    def close(self) -> None:
        """Close the connection; the store stays."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- plumbing ---------------------------------------------------------------------

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """SQLite's errors as sentences that say what to do."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            text = str(error)
            if "full" in text:
                advice = f"The disk that holds {self.path} is full: free some space and try again."
            elif "disk I/O error" in text:  # also where a file may not grow
                advice = (
                    f"{self.path} cannot be read or written ({text}): free some space on its disk, "
                    "or set KERNEL_LSP_DATA to a folder on another one."
                )
            elif "readonly" in text or "unable to open" in text:
                advice = (
                    f"{self.path} cannot be written: check its permissions or set "
                    "KERNEL_LSP_DATA to another folder."
                )
            elif "locked" in text:
                advice = f"{self.path} is locked by another program: close it and try again."
            elif isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
                raise
            elif "malformed" in text or "not a database" in text or "no such" in text:
                advice = (
                    f"{self.path} is damaged: move it away to start afresh (runs in it are lost, "
                    "delivered kernels are not)."
                )
            else:
                advice = f"{self.path} cannot be used: {text}."
            raise StoreError(advice) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _migrate(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} was written by a newer kernel-lsp (schema {version}, this one "
                f"knows {SCHEMA_VERSION}): upgrade kernel-lsp, or set KERNEL_LSP_DATA to "
                "another folder."
            )
        if version == SCHEMA_VERSION:
            return
        with self._transaction() as db:
            # Read again: another process may have been faster.
            found = db.execute("PRAGMA user_version").fetchone()[0]
            for migration in _MIGRATIONS[found:]:
                for statement in migration.split(";"):
                    if statement.strip():
                        db.execute(statement)
            db.execute(f"PRAGMA user_version = {max(found, SCHEMA_VERSION)}")

    def change_counter(self) -> int:
        """Changes when another connection wrote: a cheap poll."""
        with self._translated():
            return int(self._db.execute("PRAGMA data_version").fetchone()[0])


def _make_private(folder: Path) -> None:
    """Make the data folder, readable for its owner only: it holds users' source code.

    Raises StoreError where it cannot be made or is somebody else's.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        owner = folder.stat().st_uid
    except OSError as error:
        raise StoreError(
            f"The data folder {folder} cannot be made ({error.strerror}): "
            "set KERNEL_LSP_DATA to a folder you can write to."
        ) from None
    # /var/tmp is everybody's: a folder that another user put there first is not to be trusted.
    if owner not in (os.getuid(), 0):
        raise StoreError(
            f"The data folder {folder} belongs to another user: set KERNEL_LSP_DATA to a folder "
            "of your own."
        )
