"""``kernel-lsp accept``, ``reject`` and ``revert``: decide on the kernel that a run offers."""

from __future__ import annotations

import argparse
from pathlib import Path

from kernel_lsp.cli import decide
from kernel_lsp.cli.output import console, print_json
from kernel_lsp.cli.target import RUN_HELP, find_run
from search_engine.store.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the three commands."""
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Carry out the decision that the command names."""
    with Store() as store:
        found = find_run(store, options.run)
        touched: list[Path] = []
        if options.command == "accept":
            touched = decide.accept(store, found)
        elif options.command == "revert":
            touched = decide.revert(store, found)
        else:
            decide.reject(store, found)
        decision = store.run(found.id).decision
    if options.json:
        print_json(
            {"run": found.id, "decision": decision, "files": [str(path) for path in touched]}
        )
        return 0
    out = console()
    out.print(f"Run {found.id}: {found.qualname} {decision}.", markup=False)
    for path in touched:
        out.print(f"  {'wrote' if path.exists() else 'removed'} {path}", markup=False)
    if decision == "accepted":
        out.print(f"Take it out again with: kernel-lsp revert {found.id}", markup=False)
    return 0
