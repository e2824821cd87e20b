"""torch.compile as a baseline: both modes, with a limit on what compiling may take."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from search_engine.capture.call import Call

MODES = ("default", "max-autotune-no-cudagraphs")
COMPILE_SECONDS = 120.0  # for each mode


class _TooLong(BaseException):
    """Not an Exception: torch.compile catches those and falls back to eager."""


def compile_modes(
    module: torch.nn.Module, call: Call, *, limit: float = COMPILE_SECONDS
) -> tuple[dict[str, Callable[..., Any]], tuple[str, ...]]:
    """``module`` compiled in each mode and run once on ``call``, and notes on what failed.

    Shapes are static, as a kernel's are. A mode that fails or takes more than ``limit``
    seconds is left out.
    """
    found: dict[str, Callable[..., Any]] = {}
    notes: list[str] = []
    for mode in MODES:
        started = time.monotonic()
        try:
            with _time_limit(limit), torch.no_grad():
                compiled = torch.compile(module, mode=mode, dynamic=False)
                compiled(*call.args, **call.kwargs)
        except _TooLong:
            notes.append(f"torch.compile ({mode}) took more than {limit:.0f} s and was left out")
        except Exception as error:  # noqa: BLE001 - whatever it is, eager is there to compare with
            first = (str(error).strip().splitlines() or [""])[0]
            notes.append(f"torch.compile ({mode}) failed: {type(error).__name__}: {first[:200]}")
        else:
            found[mode] = compiled
            seconds = time.monotonic() - started
            notes.append(f"torch.compile ({mode}) took {seconds:.0f} s to compile")
    return found, tuple(notes)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises _TooLong in the block after ``seconds``. Holds in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
