"""``kernel-lsp doctor``: what is found on this machine and what to do about what is missing."""

from __future__ import annotations

import argparse

from kernel_lsp.cli.engine_call import add_interpreter, call_engine
from kernel_lsp.cli.output import console, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_interpreter(parser)


def run(options: argparse.Namespace) -> int:
    """Print the checks; 0 if a search can run here (on a GPU or on the CPU), else 2."""
    report = call_engine(["doctor"], options.interpreter)
    if options.json:
        print_json(report)
    else:
        out = console()
        marks = {True: "[green]✓[/]", False: "[red]✗[/]", None: "[yellow]–[/]"}
        for check in report["checks"]:
            out.print(f"{marks[check['ok']]} [bold]{check['name']}[/]: ", end="")
            out.print(check["found"], markup=False)
            if check["advice"]:
                out.print(f"    → {check['advice']}", markup=False)
        out.print()
        out.print(report["summary"], markup=False)
    return 0 if report["usable"] else 2
