"""Watching a search from the command line until it ends, and saying what it came to."""

from __future__ import annotations

import time

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from kernel_lsp.cli.output import console, print_json
from kernel_lsp.cli.run_json import summary
from kernel_lsp.engine import Engine
from kernel_lsp.presentation import result_phrase, status_sentence
from search_engine.errors import KernelLspError
from search_engine.store.records import Run
from search_engine.store.store import Store

_POLL_SECONDS = 0.2


def launch(store: Store, engine: Engine, run_id: str, *, detach: bool = False) -> None:
    """Start the process of a run that nobody works on. Raises SetupError, the run failed then.

    The lease of a killed process runs out only after a while. Who watches sees that then;
    with ``detach`` nobody does, so the next beat is waited for.
    """
    if store.run(run_id).alive and (not detach or _beats(store, run_id)):
        return
    try:
        engine.start(run_id)
    except KernelLspError as error:
        store.finish(run_id, "failed", str(error))
        raise


def _beats(store: Store, run_id: str) -> bool:
    """Whether a process renews the run's lease, before the lease runs out."""
    seen = store.lease_until(run_id)
    while store.run(run_id).alive:
        if store.lease_until(run_id) > seen:
            return True
        time.sleep(_POLL_SECONDS)
    return not store.run(run_id).active  # it came to its end meanwhile


def see_through(store: Store, engine: Engine, run_id: str, *, detach: bool, as_json: bool) -> int:
    """Watch a search to its end unless ``detach``, print what came of it; the exit code.

    0: a verified kernel is offered; 1: nothing better; 2: the search could not run.
    """
    if detach:
        found = store.run(run_id)
        if as_json:
            print_json(summary(found))
        else:
            console().print(f"Search {run_id} started; watch it: kernel-lsp show {run_id}")
        return 0
    found = watch(store, engine, run_id, quiet=as_json)
    if as_json:
        print_json(summary(found))
    else:
        _print_offer(found)
    if found.status == "failed":
        return 2
    return 0 if found.delivery is not None else 1


def watch(store: Store, engine: Engine, run_id: str, *, quiet: bool) -> Run:
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
                    progress.print(
                        "Stopping once its best is checked; Ctrl-C again leaves it to itself."
                    )


def _print_offer(run: Run) -> None:
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
