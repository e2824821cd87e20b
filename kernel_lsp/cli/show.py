"""``kernel-lsp show``: one search with its ideas, kernels, verdicts and times."""

from __future__ import annotations

import argparse

from rich.markdown import Markdown
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table

from kernel_lsp.cli.output import console, print_json
from kernel_lsp.cli.run_json import everything
from kernel_lsp.cli.target import RUN_HELP, find_run
from kernel_lsp.presentation import configuration_phrase, run_markdown
from search_engine.errors import KernelLspError
from search_engine.store.records import KernelRecord
from search_engine.store.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("--kernel", type=int, metavar="N", help="print the source of kernel N")
    parser.add_argument(
        "--template", action="store_true", help="with --kernel: its text with the tune lines open"
    )
    parser.add_argument("--diff", action="store_true", help="print the edit that Accept makes")
    parser.add_argument("--log", action="store_true", help="print the run's log")
    parser.add_argument("--sources", action="store_true", help="with --json: kernel sources too")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print the run."""
    out = console()
    with Store() as store:
        found = find_run(store, options.run)
        events = store.events(found.id) if options.log else []
    if options.json:
        print_json(everything(found, sources=options.sources))
    elif options.kernel is not None:
        kernel = next((k for k in found.kernels if k.id == options.kernel), None)
        if kernel is None:
            known = ", ".join(str(k.id) for k in found.kernels) or "none"
            raise KernelLspError(f"Run {found.id} has no kernel {options.kernel}: it has {known}.")
        source = (kernel.template or kernel.source) if options.template else kernel.source
        if out.is_terminal:
            out.print(Syntax(source, "cuda", background_color="default"))
        else:
            out.print(source, markup=False, end="")
    elif options.diff:
        from kernel_lsp.cli.decide import delivery_diff

        out.print(delivery_diff(found), markup=False, end="")
    elif options.log:
        for event in events:
            out.print(f"{event.time - found.created:7.1f} s  {event.message}", markup=False)
    else:
        out.print(Markdown(run_markdown(found)))
        out.print()
        for kernel in found.kernels:
            verdict = kernel.verdict
            if verdict is not None and not verdict.accepted:
                out.print(f"kernel {kernel.id} rejected: {verdict.reason}", markup=False)
        for kernel in found.kernels:
            if kernel.configurations:
                out.print(_configurations(kernel))
    return 0


def _configurations(kernel: KernelRecord) -> Table:
    """What was tried of a kernel's tune lines, the fastest first."""
    names = list(kernel.configurations[0].values)
    title = f"kernel {kernel.id}: {len(kernel.configurations)} configurations"
    table = Table(*names, "outcome", title=title, title_justify="left", box=None, pad_edge=False)
    last = float("inf")
    for tried in sorted(
        kernel.configurations, key=lambda c: last if c.time is None else c.time.median
    ):
        mark = "  ← chosen" if tried == kernel.chosen else ""
        table.add_row(*tried.values.values(), escape(configuration_phrase(tried) + mark))
    return table
