"""Runs the user's command with the recorder in it, and reads what it recorded. Free of torch."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from attrs import frozen

import search_engine
from search_engine.errors import KernelLspError, SetupError
from search_engine.record.command import Command
from search_engine.recording import RecordedCall, Recording
from search_engine.source import fingerprint

_INSIDE = Path(search_engine.__file__).parent / "record" / "inside" / "__main__.py"
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
MOST_VARIANTS = 16  # kept of a class, the most frequent first
MOST_BYTES = 64 * 2**20  # of a snapshot: more is none of ours


@frozen
class Recorded:
    """How the command ended, and what was seen. ``code`` is negative for a signal."""

    code: int
    recordings: tuple[Recording, ...]
    seen: bool  # the recorder wrote anything at all


def record(command: Command) -> Recorded:
    """Run a command to its end, its input, output and signals its own.

    Raises KernelLspError where there is no such script, SetupError where the interpreter
    cannot be started.
    """
    if command.kind == "script" and not Path(command.target).exists():
        raise KernelLspError(f"There is no {command.target} to run: check its path.")
    with tempfile.TemporaryDirectory(prefix="kernel-lsp-record-") as folder:
        snapshot = Path(folder) / "snapshot.json"
        words = [
            command.interpreter, *command.options, str(_INSIDE),
            str(snapshot), command.kind, command.target, *command.arguments,
        ]  # fmt: skip
        try:
            process = subprocess.Popen(words)
        except OSError as error:
            raise SetupError(
                f"The interpreter {command.interpreter} cannot be started ({error.strerror}): give "
                "the Python that has your torch."
            ) from None
        with _signals_for(process):
            code = process.wait()
        content = _read(snapshot)
    recordings = () if content is None else tuple(_recordings(content, command.name))
    return Recorded(code, recordings, content is not None)


@contextlib.contextmanager
def _signals_for(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """The command gets the signals; a terminal's Ctrl-C reaches it by itself."""

    def forward(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)

    def let_pass(_number: int, _frame: FrameType | None) -> None:
        return None

    handlers: dict[int, Callable[[int, FrameType | None], None]]
    handlers = dict.fromkeys(_FORWARDED, forward)
    handlers[signal.SIGINT] = handlers[signal.SIGQUIT] = let_pass
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _read(snapshot: Path) -> dict[str, Any] | None:
    try:
        if snapshot.stat().st_size > MOST_BYTES:
            return None
        content = json.loads(snapshot.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _recordings(content: Mapping[str, Any], command: str) -> Iterator[Recording]:
    now = time.time()
    for entry in content["classes"]:
        digest = fingerprint(content["texts"][entry["file"]], entry["qualname"])
        if digest is None:  # made by a function at run time: there is no class in the file
            continue
        seconds, share, self_share = _times(entry, content)
        described = [v for v in entry["variants"] if v["description"]]
        reasons = [v["why"] for v in entry["variants"] if v["why"]]
        yield Recording(
            path=entry["file"],
            qualname=entry["qualname"],
            fingerprint=digest,
            command=command,
            recorded=now,
            device=content["device"],
            calls=entry["calls"],
            graded=entry["graded"],
            seconds=seconds,
            share=share,
            self_share=self_share,
            variants=tuple(_merged(described))[:MOST_VARIANTS],
            undescribed="" if described or not reasons else reasons[0],
        )


def _times(
    entry: Mapping[str, Any], content: Mapping[str, Any]
) -> tuple[float | None, float | None, float | None]:
    """Seconds of a call and the two shares, by the GPU's clock where it ran."""
    clock, total = ("gpu", content["gpu"]) if content["gpu"] > 0 else ("cpu", content["wall"])
    if not entry["timed"] or total <= 0:
        return None, None, None
    seconds, own = entry[clock], max(entry[f"{clock}_self"], 0.0)
    return seconds / entry["timed"], min(seconds / total, 1.0), min(own / total, 1.0)


def _merged(variants: list[Mapping[str, Any]]) -> list[RecordedCall]:
    """Variants that read the same (training and eval, instances made alike) as one."""
    found: dict[tuple[str, str, str], RecordedCall] = {}
    for variant in variants:
        strides = {name: tuple(stride) for name, stride in variant["strides"].items()}
        key = (variant["description"], variant["state"], json.dumps(variant["strides"]))
        before = found[key].calls if key in found else 0
        found[key] = RecordedCall(
            variant["description"], before + variant["calls"], strides, variant["state"]
        )
    return sorted(found.values(), key=lambda call: -call.calls)
