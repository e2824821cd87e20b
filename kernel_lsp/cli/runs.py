"""``kernel-lsp runs``: all searches, newest first."""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

from rich.table import Table

from kernel_lsp.cli.output import console, print_json
from kernel_lsp.cli.run_json import summary
from kernel_lsp.presentation import result_phrase
from search_engine.store.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("file", nargs="?", help="only the searches of this file")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print the list."""
    path = None if options.file is None else str(Path(options.file).expanduser().resolve())
    with Store() as store:
        runs = [store.run(run_id) for run_id in store.run_ids(path)]
    if options.json:
        print_json([summary(run) for run in runs])
        return 0
    if not runs:
        console().print("No searches yet: `kernel-lsp optimize FILE` starts one.", markup=False)
        return 0
    table = Table(box=None, pad_edge=False)
    for heading in ("run", "started", "module", "status", "decision", "result"):
        # An id that is cut cannot be given to another command.
        table.add_column(heading, overflow="fold", no_wrap=heading == "run")
    for run in runs:
        started = datetime.datetime.fromtimestamp(run.created).strftime("%Y-%m-%d %H:%M")
        status: str = run.status
        if run.status == "running" and not run.alive:
            status += " (interrupted)"
        table.add_row(
            run.id, started, f"{Path(run.path).name}::{run.qualname}", status,
            "" if run.decision == "none" else run.decision, result_phrase(run),
        )  # fmt: skip
    console().print(table)
    return 0
