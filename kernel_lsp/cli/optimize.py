"""``kernel-lsp optimize``: start a search (or join the one that runs) and watch it."""

from __future__ import annotations

import argparse
import ast
import time

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from kernel_lsp.cli.engine_call import add_interpreter
from kernel_lsp.cli.output import console, print_json
from kernel_lsp.cli.run_json import summary
from kernel_lsp.cli.settings_arguments import add_settings, settings_from
from kernel_lsp.cli.target import Target, read_target
from kernel_lsp.engine import Engine
from kernel_lsp.modules import choose_class
from kernel_lsp.presentation import result_phrase, status_sentence
from search_engine.errors import KernelLspError
from search_engine.settings import SearchSettings
from search_engine.source import fingerprint
from search_engine.store.records import Run
from search_engine.store.store import Store
from search_engine.task import CaptureRequest

_SETTINGS = (
    "rounds", "ideas", "branches", "seeds", "minutes", "device", "target",
    "stop_at_limit", "configurations", "sweep_seconds", "import_timeout", "kernel_timeout",
    "unguarded",
)  # fmt: skip
_POLL_SECONDS = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("file", metavar="FILE[::Class]", help="the module's file")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--detach", action="store_true", help="start the search and return")
    add_settings(parser, _SETTINGS)
    add_interpreter(parser)


def run(options: argparse.Namespace) -> int:
    """0: a verified kernel is offered; 1: nothing better; 2: the search could not run."""
    target = read_target(options.file)
    settings = settings_from(options)
    with Store() as store:
        engine = Engine(store.path, options.interpreter)
        run_id = _start(store, engine, target, settings)
        if options.detach:
            found = store.run(run_id)
            if options.json:
                print_json(summary(found))
            else:
                console().print(f"Search {run_id} started; watch it: kernel-lsp show {run_id}")
            return 0
        found = _watch(store, engine, run_id, quiet=options.json)
    if options.json:
        print_json(summary(found))
    else:
        _print_end(found)
    if found.status == "failed":
        return 2
    return 0 if found.delivery is not None else 1


def _start(store: Store, engine: Engine, target: Target, settings: SearchSettings) -> str:
    qualname = target.qualname or choose_class(target.text)
    digest = fingerprint(target.text, qualname)
    if digest is None:
        raise KernelLspError(_unreadable(target, qualname))
    request = CaptureRequest(
        path=str(target.path),
        text=target.text,
        qualname=qualname,
        target=settings.target,
        import_timeout=settings.import_timeout,
    )
    run_id, new = store.start_run(request, qualname, digest, settings)
    if new or not store.run(run_id).alive:
        try:
            engine.start(run_id)
        except KernelLspError as error:
            store.finish(run_id, "failed", str(error))
            raise
    return run_id


def _unreadable(target: Target, qualname: str) -> str:
    """Why the class cannot be searched for: a syntax error with its line, or its absence."""
    try:
        ast.parse(target.text)
    except SyntaxError as error:
        return f"{target.path.name}, line {error.lineno}: {error.msg}. Mend it, then try again."
    return f"{target.path.name} has no class {qualname}: check the name behind `::`."


def _watch(store: Store, engine: Engine, run_id: str, *, quiet: bool) -> Run:
    """Print what happens until the run ends; Ctrl-C asks the search to end."""
    out = console()
    seen = 0
    asked = False
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True, disable=quiet) as progress:
        bar = progress.add_task("starting", total=None)
        while True:
            try:
                # The run first: once it has ended, its last event is there to be read.
                found = store.run(run_id)
                for event in store.events(run_id, seen):
                    seen = event.id
                    if not quiet:
                        progress.print(event.message, markup=False)
                if not found.active:
                    return found
                if not found.alive and (reason := engine.failure(run_id)) is not None:
                    store.finish(run_id, "failed", reason)
                    continue
                if found.status == "running" and not found.alive:
                    # Its process was killed; the lease has run out only now.
                    engine.start(run_id)
                total = found.settings.rounds * found.settings.ideas * found.settings.branches
                done = sum(kernel.finished for kernel in found.kernels)
                progress.update(
                    bar, description=status_sentence(found), total=total, completed=done
                )
                time.sleep(_POLL_SECONDS)
            except KeyboardInterrupt:
                if asked:
                    raise
                asked = True
                store.request_stop(run_id)
                if not quiet:
                    progress.print("Stopping after this kernel; Ctrl-C again leaves it to itself.")


def _print_end(run: Run) -> None:
    """What to do with the offer; the outcome itself was the last event."""
    if run.delivery is None:
        return
    out = console()
    out.print(f"\n{run.delivery.title}: {result_phrase(run)}", style="bold", markup=False)
    out.print(run.delivery.rationale, markup=False)
    out.print(
        f"\n  kernel-lsp show {run.id} --diff    look at the edit\n"
        f"  kernel-lsp accept {run.id}         put it into the project\n"
        f"  kernel-lsp reject {run.id}         decline",
        markup=False,
    )
