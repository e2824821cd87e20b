"""``kernel-lsp record``: run a script and keep what its modules are called on, and their share."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from rich.console import Console

from kernel_lsp.presentation import recording_phrase
from search_engine.errors import StoreError
from search_engine.record.command import parse_command
from search_engine.record.launch import Recorded, record
from search_engine.recording import Recording
from search_engine.store.store import Store

_LISTED = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.usage = "kernel-lsp record [-h] [--quiet] [--interpreter PYTHON] [--] COMMAND ..."
    parser.add_argument("--quiet", action="store_true", help="say nothing at the end")
    parser.add_argument(
        "--interpreter",
        default=sys.executable,
        metavar="PYTHON",
        help="the Python for a COMMAND that names none (default: this one)",
    )
    parser.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="COMMAND",
        help="python train.py …, python -m package …, or train.py …",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; the exit code is its own."""
    words: Sequence[str] = options.words
    if words and words[0] == "--":
        words = words[1:]
    recorded = record(parse_command(words, options.interpreter))
    try:
        if recorded.recordings:
            with Store() as store:
                store.add_recordings(recorded.recordings)
    except StoreError as error:  # no reason for a training job to count as failed
        print(f"kernel-lsp: nothing was recorded: {error}", file=sys.stderr)
    else:
        if not options.quiet:
            _tell(recorded)
    return _pass_on(recorded.code)


def _tell(recorded: Recorded) -> None:
    """What was kept, behind the script's own output."""
    out = Console(stderr=True, highlight=False, soft_wrap=True)
    if not recorded.recordings:
        why = "no module class of your own was called" if recorded.seen else "it did not start"
        out.print(f"kernel-lsp: nothing was recorded: {why}.", markup=False)
        return
    count = len(recorded.recordings)
    classes = "class" if count == 1 else "classes"
    out.print(f"kernel-lsp: recorded {count} {classes}:", markup=False)

    def by_share(recording: Recording) -> float:
        return -(recording.share or 0.0)

    for recording in sorted(recorded.recordings, key=by_share)[:_LISTED]:
        out.print(f"  {recording.qualname}: {recording_phrase(recording)}", markup=False)


def _pass_on(code: int) -> int:
    """End as the command did: by the same signal where one ended it."""
    if code >= 0:
        return code
    if -code in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        sys.stdout.flush()
        sys.stderr.flush()
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return 128 - code
