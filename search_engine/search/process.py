"""``python -m search_engine search RUN_ID``: a process of its own that holds a run's lease."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from search_engine.errors import CaptureError, KernelLspError, StoreError
from search_engine.hardware import DeviceFacts
from search_engine.judgement import DeviceInfo
from search_engine.proposers._base import Proposer
from search_engine.search.bench import Bench
from search_engine.search.environment import environment_of
from search_engine.search.loop import Study
from search_engine.search.offer import conclude
from search_engine.search.proposers import open_proposers
from search_engine.search.worker_bench import WorkerBench
from search_engine.settings import SearchSettings
from search_engine.store.records import Environment, Run, Status
from search_engine.store.store import LEASE_SECONDS, Store
from search_engine.task import CaptureRequest, Task
from search_engine.words import time_text

BEAT_SECONDS = LEASE_SECONDS / 5
STOP_POLL_SECONDS = 0.5

OpenBench = Callable[[CaptureRequest, SearchSettings], Bench]
OpenProposers = Callable[[SearchSettings, DeviceFacts], Sequence[Proposer]]

logger = logging.getLogger(__name__)


class Stopped(BaseException):
    """Somebody asked this search to end; raised wherever the main thread just was.

    No ``Exception``, so that nothing takes it for a fault of its own.
    """


class LeaseLost(BaseException):
    """Another process holds the run now; nothing more may be written."""


def main(
    run_id: str,
    store_path: Path | None = None,
    *,
    open_bench: OpenBench = WorkerBench,
    open_proposers: OpenProposers = open_proposers,
) -> int:
    """Take up a run and bring it to its end, which the store then has; returns 0.

    A run that is at its end already or in the hands of another process is left alone.
    Raises StoreError where the store cannot be used.
    """
    with Store(store_path) as store:
        owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        run = store.run(run_id)
        if not store.claim(run_id, owner):
            logger.info("run %s is at its end or in the hands of another process", run_id)
            return 0
        signals = _Signals()
        with signals, _Heartbeat(store.path, run_id, owner, signals):
            try:
                _search(store, run, open_bench, open_proposers, signals)
            except LeaseLost:
                logger.warning("the lease of run %s was lost: another process goes on", run_id)
        return 0


def _search(
    store: Store,
    run: Run,
    open_bench: OpenBench,
    open_proposers: OpenProposers,
    signals: _Signals,
) -> None:
    bench = open_bench(run.request, run.settings)
    try:
        status, message = _ended(store, run, bench, open_proposers)
        signals.ignore()  # the end is written down whole
        store.finish(run.id, status, message)
    finally:
        bench.close()


def _ended(
    store: Store, run: Run, bench: Bench, open_proposers: OpenProposers
) -> tuple[Status, str]:
    """How the search ended, whatever it ran into."""
    try:
        return _study(store, run, bench, open_proposers)
    except Stopped:
        return "stopped", "Stopped."
    except KernelLspError as error:
        logger.warning("run %s failed", run.id, exc_info=True)
        return "failed", str(error)
    except Exception as error:
        logger.exception("run %s failed", run.id)
        name = type(error).__name__
        log = store.path.parent / "logs" / f"{run.id}.log"
        message = f"The search failed on a fault of its own ({name}): {log} has the details."
        return "failed", message


def _study(
    store: Store, run: Run, bench: Bench, open_proposers: OpenProposers
) -> tuple[Status, str]:
    """Capture, search, conclude; the status and sentence that the run ends with."""
    store.set_progress(run.id, run.round, "importing the module and its inputs")
    task = bench.capture()
    if run.task is not None and _inputs(task) != _inputs(run.task):
        raise CaptureError(
            f"{run.qualname} is run on other inputs now than when this search began: start a new "
            "search."
        )
    store.set_task(run.id, task)
    environment = environment_of(bench.device())
    if run.task is None:
        store.add_event(run.id, "capture", _captured(task, bench.device()))
        for note in task.notes:
            store.add_event(run.id, "notice", note)
    elif run.environment is not None and run.environment != environment:
        _moved(store, run.id, run.environment, environment)
    store.set_environment(run.id, environment)
    proposers = open_proposers(run.settings, bench.device().facts)
    study = Study(store, run.id, task, bench, proposers)
    try:
        why = study.search()
    except Stopped:
        bench.reset()
        why = "it was stopped"
    stopped = store.stop_requested(run.id) or why == "it was stopped"
    try:
        message = conclude(study, why)
    except Stopped:  # what is verified already is offered all the same
        bench.reset()
        stopped, message = True, conclude(study, "it was stopped")
    if stopped:
        return "stopped", f"Stopped. {message}"
    return "finished", message


def _moved(store: Store, run_id: str, before: Environment, now: Environment) -> None:
    """Say that a run goes on elsewhere; what passed on another device is judged anew."""
    message = f"This search goes on on {now}; so far it ran on {before}"
    if not now.same_device(before):
        count = store.judge_anew(run_id)
        message += f": the {count} kernels that passed are checked and timed anew"
    store.add_event(run_id, "notice", f"{message}.")


def _inputs(task: Task) -> tuple[object, ...]:
    """What has to stay the same for kernels and times of a search to belong together."""
    return task.tensors, task.scalars, task.mode, task.policy


def _captured(task: Task, device: DeviceInfo) -> str:
    shapes = "; then ".join([task.shape_text, *(other.shape_text for other in task.further)])
    limit = f"limit {time_text(task.limit_seconds)} on {device.facts.name} ({task.limit_reason})"
    return f"Captured {task.construction} with {shapes}; {limit}; kernels run on {device.name}"


class _Signals:
    """SIGTERM, SIGINT and what the heartbeat finds, as exceptions in the main thread."""

    def __init__(self) -> None:
        self.lease_lost = False
        self._previous: dict[int, object] = {}
        self._ignored = False

    def __enter__(self) -> _Signals:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self._ignored:
            return
        if self.lease_lost:
            raise LeaseLost
        raise Stopped

    def raise_in_main(self) -> None:
        """Interrupt the main thread, whatever it waits for."""
        os.kill(os.getpid(), signal.SIGTERM)

    def ignore(self) -> None:
        """From now on nothing interrupts the main thread."""
        self._ignored = True


class _Heartbeat:
    """A thread that renews the lease and looks for a request to stop."""

    def __init__(self, store_path: Path, run_id: str, owner: str, signals: _Signals) -> None:
        self._store_path, self._run_id, self._owner = store_path, run_id, owner
        self._signals = signals
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        told, due = False, time.monotonic() + BEAT_SECONDS
        with Store(self._store_path) as store:
            while not self._ended.wait(STOP_POLL_SECONDS):
                try:
                    if time.monotonic() >= due:
                        due = time.monotonic() + BEAT_SECONDS
                        if not store.beat(self._run_id, self._owner):
                            self._lose(store)
                            return
                    if not told and store.stop_requested(self._run_id):
                        told = True
                        self._signals.raise_in_main()
                except StoreError as error:
                    logger.warning("the lease could not be renewed: %s", error)

    def _lose(self, store: Store) -> None:
        if self._ended.is_set() or not store.run(self._run_id).active:
            return  # the main thread has just written the end
        self._signals.lease_lost = True
        self._signals.raise_in_main()
