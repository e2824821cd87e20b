"""One worker process and the object in it.

GPU work, user code and everything else that may hang, fault or be killed runs in a child of
a fork server that has torch imported and nothing else done: no CUDA context, no op run. A
child that dies costs 0.3 s and the candidate it was at, never the search.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import importlib
import itertools
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from attrs import frozen

from search_engine.data_folder import data_folder
from search_engine.errors import KernelLspError, SetupError, WorkerDied
from search_engine.workers.environment import hidden_secrets, without_secrets
from search_engine.workers.parent import die_with_parent
from search_engine.workers.retire import retire, retired

logger = logging.getLogger(__name__)

START_SECONDS = 120.0  # the first child waits for the fork server's import of torch
KEPT_LOGS = 20
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_context = multiprocessing.get_context("forkserver")
_server_lock = threading.Lock()
_numbers = itertools.count()


@frozen
class Replay:
    """A call that a fresh child gets before anything else, so that it stands where the last did."""

    method: str
    args: tuple[Any, ...] = ()
    timeout: float = START_SECONDS


class Worker:
    """Runs the methods of one object in a process of its own.

    ``factory`` names the callable that makes the object there, "package.module:Name", and
    ``kwargs`` are its arguments. ``on_restart`` may be filled at any time: those calls are
    made, and their results dropped, in each child that replaces a dead one. Arguments and
    results are pickled. Threads may share a worker; calls come one after the other.
    """

    def __init__(
        self,
        factory: str,
        kwargs: Mapping[str, Any] | None = None,
        *,
        on_restart: list[Replay] | None = None,
        log: Path | None = None,
    ) -> None:
        """``log`` takes what the child prints; by default a file in the data folder."""
        self.factory = factory
        self.kwargs = dict(kwargs or {})
        self.on_restart = on_restart if on_restart is not None else []
        self.log = log or _new_log()
        self.starts = 0  # children so far
        self._process: ForkServerProcess | None = None
        self._pipe: Connection | None = None
        self._lock = threading.RLock()
        atexit.register(self.close)

    @property
    def pid(self) -> int | None:
        """The child's process id, None where there is none now."""
        return self._process.pid if self._process is not None else None

    def call(self, method: str, *args: Any, timeout: float) -> Any:
        """The result of ``method(*args)`` in the child, started now if there is none.

        Raises WorkerDied where the child died, took more than ``timeout`` seconds (it is
        killed then) or raised something unexpected; a KernelLspError raised there is
        raised here. After a death the next call starts a fresh child.
        """
        with self._lock:
            if self._process is None or not self._process.is_alive():
                self._start()
            return self._exchange(method, args, timeout)

    def close(self) -> None:
        """End the child. The worker can be used again: the next call starts another."""
        with self._lock:
            self._kill()
        atexit.unregister(self.close)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- the child's life -------------------------------------------------------------

    def _start(self) -> None:
        self._kill()
        start_server()
        ours, theirs = _context.Pipe()
        process = _context.Process(
            target=_serve,
            args=(theirs, self.factory, self.kwargs, str(self.log)),
            name=f"kernel-lsp worker ({self.factory})",
            daemon=True,
        )
        process.start()
        theirs.close()
        self._process, self._pipe = process, ours
        self.starts += 1
        self._receive("start", START_SECONDS)
        if self.starts > 1:
            for replay in tuple(self.on_restart):
                self._exchange(replay.method, replay.args, replay.timeout)

    def _exchange(self, method: str, args: tuple[Any, ...], timeout: float) -> Any:
        assert self._pipe is not None
        # Pickled before it is sent, so that a fault in it is the caller's and not a death.
        message = pickle.dumps((method, args))
        try:
            self._pipe.send_bytes(message)
        except OSError:
            raise self._death(method) from None
        return self._receive(method, timeout)

    def _receive(self, method: str, timeout: float) -> Any:
        assert self._pipe is not None
        try:
            if not self._pipe.poll(timeout):
                self._kill()
                raise WorkerDied(
                    f"The worker took more than {timeout:g} s for {method!r} and was ended.",
                    timed_out=True,
                )
            reply = self._pipe.recv()
        except (EOFError, OSError):
            raise self._death(method) from None
        assert isinstance(reply, _Reply)
        if reply.last:
            self._kill()
        if isinstance(reply.value, _Failure):
            raise reply.value.rebuild()
        return reply.value

    def _death(self, method: str) -> WorkerDied:
        code = None
        if self._process is not None:
            self._process.join(2.0)
            code = self._process.exitcode
        self._kill()
        return WorkerDied(f"The worker {_manner(code)} during {method!r} (log: {self.log}).")

    def _kill(self) -> None:
        """End the child with all it started, for good."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if pipe is not None:
            pipe.close()
        if process is None:
            return
        if process.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # the child leads its own group
            if process.is_alive():
                process.kill()
        process.join(5.0)
        process.close()


def start_server() -> None:
    """Start the fork server, with torch imported in it, if it does not run yet.

    A search calls this before it does anything else: the import takes seconds and needs
    nobody to wait for it. Keys in the environment stay out of the server and its children.
    """
    with _server_lock, hidden_secrets():
        _context.set_forkserver_preload(["torch"])
        forkserver.ensure_running()


def _manner(code: int | None) -> str:
    if code is None:
        return "died"
    if code < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            meaning = {
                "SIGSEGV": " (a bad memory access)",
                "SIGKILL": " (out of memory, or killed by hand)",
                "SIGXCPU": " (its limit of processor time)",
            }.get(name, "")
            return f"was ended by {name}{meaning}"
        return f"was ended by signal {-code}"
    return f"ended with exit code {code}"


def _new_log() -> Path:
    folder = data_folder() / "logs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        old = sorted(folder.glob("worker-*.log"), key=lambda path: path.stat().st_mtime)
        for path in old[: max(len(old) - KEPT_LOGS + 1, 0)]:
            path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("no logs of workers are kept in %s: %s", folder, error)
        return Path(os.devnull)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return folder / f"worker-{stamp}-{os.getpid()}-{next(_numbers)}.log"


# --- in the child ---------------------------------------------------------------------


@frozen
class _Failure:
    """An error on its way to the parent. Kept in parts: exceptions do not always pickle."""

    kind: type[KernelLspError]
    args: tuple[Any, ...]
    state: dict[str, Any]

    @classmethod
    def of(cls, error: BaseException) -> _Failure:
        if isinstance(error, KernelLspError):
            return cls(type(error), error.args, dict(vars(error)))
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            disk = f"The disk that holds {error.filename}" if error.filename else "A disk"
            return cls(SetupError, (f"{disk} is full: free some space and try again.",), {})
        # Where a device was lost before, the error at hand only follows from it.
        reason = retired()
        if reason is None:
            told = "".join(traceback.format_exception_only(type(error), error)).strip()
            reason = f"The worker failed: {told.splitlines()[0]}"
            retire(reason)  # what the failure left behind is nobody's to build on
        return cls(WorkerDied, (reason,), {"timed_out": False})

    def rebuild(self) -> KernelLspError:
        error = self.kind.__new__(self.kind)
        error.args = self.args
        vars(error).update(self.state)
        return error


@frozen
class _Reply:
    """A result or failure; ``last`` where the child is not to be used any more."""

    value: Any
    last: bool


def _serve(pipe: Connection, factory: str, kwargs: dict[str, Any], log: str) -> None:
    os.setpgid(0, 0)
    die_with_parent()
    _redirect(log)
    for name in set(os.environ) - set(without_secrets(os.environ)):
        del os.environ[name]
    # Ctrl-C in the terminal is for the parent, which ends us as it sees fit.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s: %(message)s"
    )
    try:
        module, _, name = factory.partition(":")
        target = getattr(importlib.import_module(module), name)(**kwargs)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent must know
        _log_traceback()
        _reply(pipe, _Failure.of(error))
        return
    _reply(pipe, None)
    while True:
        try:
            method, args = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        try:
            result = getattr(target, method)(*args)
        except BaseException as error:  # noqa: BLE001
            _log_traceback()
            result = _Failure.of(error)
        _reply(pipe, result)


def _log_traceback() -> None:
    """The error at hand into the log, as far as the disk has room: losing it costs no answer."""
    with contextlib.suppress(OSError):
        traceback.print_exc()
        sys.stderr.flush()


def _reply(pipe: Connection, value: Any) -> None:
    try:
        pipe.send(_Reply(value, retired() is not None))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        pipe.send(_Reply(_Failure.of(error), True))


def _redirect(log: str) -> None:
    """Whatever is printed here goes to the log; the parent's stdout may carry a protocol."""
    try:
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:
        target = os.open(os.devnull, os.O_WRONLY)
    nothing = os.open(os.devnull, os.O_RDONLY)
    sys.stdout.flush()
    sys.stderr.flush()
    for descriptor, source in ((0, nothing), (1, target), (2, target)):
        os.dup2(source, descriptor)
    os.close(target)
    os.close(nothing)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False, errors="replace")
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False, errors="replace")
