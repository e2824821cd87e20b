"""The process layer: searches as processes of the user's interpreter that outlive the server.

A search is started detached, in a session of its own, with nothing of the server's: its
output goes to a log file in the data folder. What it does is read from the store; all
that is known of the process itself is whether it ended, and how.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from search_engine.errors import SetupError

_TAIL_BYTES = 8192
_LOGS_KEPT = 40


class Engine:
    """Starts searches on one store under one interpreter."""

    def __init__(self, store_path: Path, interpreter: str = "") -> None:
        self.store_path = store_path
        self.interpreter = interpreter  # empty: the one that this process runs under
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def _python(self) -> str:
        return self.interpreter or sys.executable

    def log_path(self, run_id: str) -> Path:
        """The file with everything that the search process prints."""
        return self.store_path.parent / "logs" / f"{run_id}.log"

    def start(self, run_id: str) -> None:
        """Start the process of a run; the store's lease decides if another has it already.

        Raises SetupError where the interpreter cannot be started or the log not written.
        """
        if self.running(run_id):
            return
        log_path = self.log_path(run_id)
        try:
            log_path.parent.mkdir(parents=True, exist_ok=True)
            self._prune(log_path.parent)
            log = log_path.open("ab")
        except OSError as error:
            raise SetupError(
                f"The search's log {log_path} cannot be written ({error.strerror}): make room or "
                "set KERNEL_LSP_DATA to a folder you can write to."
            ) from None
        with log:
            self._processes[run_id] = self._spawn(run_id, log.fileno())

    def _spawn(self, run_id: str, log: int) -> subprocess.Popen[bytes]:
        command = [
            self._python, "-m", "search_engine", "search", run_id,
            "--store", str(self.store_path),
        ]  # fmt: skip
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # `-m` puts the working folder first on the path: the user's project must
                # not shadow the engine's own imports.
                cwd=self.store_path.parent,
            )
        except OSError as error:
            raise SetupError(
                f"The Python interpreter {self._python} cannot be started "
                f"({error.strerror}): set kernel-lsp.interpreter to the Python that has your torch."
            ) from None

    def running(self, run_id: str) -> bool:
        """Whether the process that this engine started for the run is there."""
        process = self._processes.get(run_id)
        return process is not None and process.poll() is None

    def killed(self, run_id: str) -> bool:
        """Whether the run's process was ended by a signal: the search can go on where it was."""
        process = self._processes.get(run_id)
        code = None if process is None else process.poll()
        return code is not None and code < 0

    def failure(self, run_id: str) -> str | None:
        """One sentence on why the run's process ended; None while it runs or ended well.

        A process that found the lease taken ends well: the run goes on elsewhere.
        """
        process = self._processes.get(run_id)
        code = None if process is None else process.poll()
        if code is None or code == 0:
            return None
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            return f"The search process was ended by {name}: search again to start afresh."
        return self._diagnosis(run_id, code)

    def _diagnosis(self, run_id: str, code: int) -> str:
        tail = self._tail(run_id)
        last = tail[-1] if tail else "it printed nothing"
        for package, name in (("search_engine", "kernel-lsp"), ("torch", "torch")):
            if f"No module named {package}" in last or f"No module named '{package}'" in last:
                return (
                    f"{self._python} has no {name}: run `{self._python} -m pip install "
                    f"{name}`, or set kernel-lsp.interpreter to the Python that has your torch."
                )
        return (
            f"The search process ended at once with exit code {code} ({last[:200]}): "
            f"the whole output is in {self.log_path(run_id)}, and `kernel-lsp doctor` checks the "
            "set-up."
        )

    def _tail(self, run_id: str) -> list[str]:
        """The last lines of the log that are not blank."""
        try:
            with self.log_path(run_id).open("rb") as log:
                log.seek(max(log.seek(0, os.SEEK_END) - _TAIL_BYTES, 0))
                text = log.read().decode("utf-8", errors="replace")
        except OSError:
            return []
        return [line.strip() for line in text.splitlines() if line.strip()]

    def kill(self, run_id: str) -> bool:
        """End the run's process and its children at once; False where it is not ours or gone."""
        process = self._processes.get(run_id)
        if process is None or process.poll() is not None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # start_new_session: its id is its group's
        return True

    @staticmethod
    def _prune(folder: Path) -> None:
        """Keep the newest logs only."""
        logs = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime)
        for path in logs[:-_LOGS_KEPT]:
            with contextlib.suppress(OSError):
                path.unlink()
