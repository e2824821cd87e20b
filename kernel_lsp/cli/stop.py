"""``kernel-lsp stop``: ask a running search to end."""

from __future__ import annotations

import argparse

from kernel_lsp.cli.output import console
from kernel_lsp.cli.target import RUN_HELP, find_run
from search_engine.errors import KernelLspError
from search_engine.store.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)


def run(options: argparse.Namespace) -> int:
    """Ask, without waiting for the end."""
    with Store() as store:
        found = find_run(store, options.run)
        if not found.active:
            raise KernelLspError(f"Run {found.id} has already ended ({found.status}).")
        store.request_stop(found.id)
    console().print(
        f"Run {found.id} ends now, once its best kernel so far is checked as delivered.",
        markup=False,
    )
    return 0
