"""Each class's share of a step: sampled, on the CPU's clock and on the GPU's.

A step is the time from one call of an outermost module to the next, backward, optimizer and
data loading included. Some steps in a row (a window) are timed, then many are not: windows
get rarer as the run goes on. On a GPU the times come from pairs of CUDA events that are
looked at once they have passed; nothing waits for the GPU until the script has ended.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

WARM_STEPS = 3  # first calls compile, allocate and tune: used only where there is nothing else
WINDOW_STEPS = 8
MOST_TIMED = 2048  # calls in a window; more of them per step make it shorter
GAP, LONGEST_GAP = 8, 512  # steps between windows; doubles from window to window


class Times:
    """Seconds of one class over all windows: inclusive, and without the user's own submodules."""

    __slots__ = ("cpu", "cpu_self", "depth", "gpu", "gpu_self", "timed")

    def __init__(self) -> None:
        self.cpu = self.cpu_self = self.gpu = self.gpu_self = 0.0
        self.timed = 0
        self.depth = 0  # calls under way; a class within itself counts once


class _Call:
    __slots__ = ("begin", "end", "inner", "outermost", "parent", "started", "times")

    def __init__(self, times: Times, parent: _Call | None) -> None:
        self.times, self.parent = times, parent
        self.outermost = times.depth == 0
        self.inner = 0.0
        self.begin: Any = None
        self.end: Any = None
        self.started = 0.0


class Clock:
    """Times calls of one thread, the first that calls a module.

    ``step`` is called at the start of every step. ``idle`` says that a call at this moment
    needs neither ``enter`` nor ``leave``: within a step that is not timed.
    """

    def __init__(self, step: Callable[[], None]) -> None:
        self.idle = False
        self._step = step
        self.wall = self.gpu = 0.0  # seconds of all windows' steps
        self.steps = 0  # of all windows
        self.roots = 0  # outermost calls so far
        self._thread: int | None = None
        self._stack: list[_Call] = []
        self._open = False
        self._window_steps = 0
        self._size = WARM_STEPS
        self._timed_before = 0
        self._gap = GAP
        self._next = 0  # the root call that opens the next window
        self._started = 0.0
        self._ended = 0.0  # of the last outermost call
        self._first: Any = None  # event at the window's start
        self._last: Any = None  # behind the last outermost call
        self._calls: list[_Call] = []  # of the open window, in the order of their ends
        self._waiting: list[tuple[Any, Any, list[_Call]]] = []  # closed, the GPU not there yet
        self._totals: list[Times] = []
        self._warm = True

    def times(self) -> Times:
        """A new class's times."""
        made = Times()
        self._totals.append(made)
        return made

    # --- around every call ------------------------------------------------------------

    def enter(self, times: Times) -> _Call | None:
        """Begin a call; hand the result to ``leave``."""
        if self._thread is None:
            self._thread = threading.get_ident()
        elif self._thread != threading.get_ident():
            return None
        if not self._stack:
            self._step()
            self._root()
            self.idle = not self._open
        call = _Call(times, self._stack[-1] if self._stack else None)
        self._stack.append(call)
        times.depth += 1
        if self._open:
            call.begin = _event()
            call.started = time.perf_counter()
        return call

    def leave(self, call: _Call | None) -> None:
        """End a call, however it ended."""
        if call is None:
            return
        now = time.perf_counter()
        self._stack.pop()
        call.times.depth -= 1
        if call.started:
            call.end = _event() if call.begin is not None else None
            took = now - call.started
            if call.parent is not None:
                call.parent.inner += took
            call.times.timed += 1
            call.times.cpu_self += took - call.inner
            if call.outermost:
                call.times.cpu += took
            if call.end is not None:
                self._calls.append(call)
        if not self._stack:
            self.idle = False
            self._ended = now
            if self._open and self._first is not None:
                self._last = _event()

    def _root(self) -> None:
        now = time.perf_counter()
        if self._open and self._window_steps >= self._size:
            self._close(now, _event() if self._first is not None else None)
        if self._waiting:
            self._resolve(wait=False)
        if not self._open and self.roots >= self._next:
            self._open, self._window_steps = True, 0
            self._started, self._first = now, _event()
        self.roots += 1
        self._window_steps += self._open

    # --- windows ----------------------------------------------------------------------

    def _close(self, now: float, last: Any) -> None:
        steps = max(self._window_steps, 1)
        timed = sum(times.timed for times in self._totals) - self._timed_before
        self._size = max(1, min(WINDOW_STEPS, MOST_TIMED * steps // max(timed, 1)))
        if self._warm:
            # There is more to come: what was timed while the run warmed up is forgotten.
            self._warm = False
            self._forget()
            self._next = self.roots
        else:
            self.wall += now - self._started
            self.steps += steps
            if self._first is not None and last is not None:
                self._waiting.append((self._first, last, self._calls))
            self._gap = min(2 * self._gap, LONGEST_GAP)
            self._next = self.roots + self._gap
        self._timed_before = sum(times.timed for times in self._totals)
        self._calls, self._open, self._first, self._last = [], False, None, None

    def _forget(self) -> None:
        for times in self._totals:
            times.cpu = times.cpu_self = times.gpu = times.gpu_self = 0.0
            times.timed = 0

    def _resolve(self, *, wait: bool) -> None:
        """Read the events of windows that the GPU has passed."""
        while self._waiting:
            first, last, calls = self._waiting[0]
            try:
                if wait:
                    last.synchronize()
                elif not last.query():
                    return
                whole = first.elapsed_time(last) * 1e-3
                took = [call.begin.elapsed_time(call.end) * 1e-3 for call in calls]
            except (RuntimeError, ValueError):  # several GPUs in one window, or a GPU that is lost
                whole, took, calls = 0.0, [], []
            self._waiting.pop(0)
            self._add(whole, calls, took)

    def _add(self, whole: float, calls: list[_Call], took: list[float]) -> None:
        self.gpu += whole
        inner: dict[int, float] = {}
        for call, seconds in zip(calls, took, strict=True):  # inner calls end first
            if call.parent is not None:
                inner[id(call.parent)] = inner.get(id(call.parent), 0.0) + seconds
            call.times.gpu_self += seconds - inner.get(id(call), 0.0)
            if call.outermost:
                call.times.gpu += seconds

    def finish(self) -> None:
        """Read what is left. A window that the end of the script cut off counts if it is all."""
        if self._open and self._ended and (self._warm or not self.steps):
            self._warm = False
            if not self._stack:
                self.wall += self._ended - self._started
                self.steps += self._window_steps
                if self._first is not None and self._last is not None:
                    self._waiting.append((self._first, self._last, self._calls))
        self._open = False
        self._resolve(wait=True)


def _event() -> Any:
    """An event on the current stream, None without a GPU at work or while a graph is captured."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized() or cuda.is_current_stream_capturing():
        return None
    event = cuda.Event(enable_timing=True)
    event.record()
    return event
