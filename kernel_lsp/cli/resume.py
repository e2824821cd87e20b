"""``kernel-lsp resume``: let a search go on where it was."""

from __future__ import annotations

import argparse

from attrs import evolve

from kernel_lsp.cli.engine_call import add_interpreter
from kernel_lsp.cli.optimize import recorded_of
from kernel_lsp.cli.output import console, print_json
from kernel_lsp.cli.run_json import summary
from kernel_lsp.cli.target import RUN_HELP, find_run, read_target
from kernel_lsp.cli.watch import launch, see_through
from kernel_lsp.engine import Engine
from kernel_lsp.settings import out_of_range
from search_engine.errors import KernelLspError
from search_engine.settings import SearchSettings
from search_engine.source import fingerprint
from search_engine.store.records import Run
from search_engine.store.store import Store
from search_engine.task import CaptureRequest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("--rounds", type=int, metavar="N", help="go on for N more rounds")
    parser.add_argument("--minutes", type=float, metavar="M", help="wall time from now on")
    parser.add_argument("--path", metavar="FILE", help="where the module's file is now")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--detach", action="store_true", help="start the search and return")
    add_interpreter(parser)


def run(options: argparse.Namespace) -> int:
    """As ``optimize``; 0 for a search that has finished and is not to go on."""
    with Store() as store:
        found = find_run(store, options.run)
        settings = _settings(found, options)
        if found.status == "finished" and options.rounds is None:
            _say_finished(found, as_json=options.json)
            return 0
        request = _request(store, found, options.path)
        if not found.active:
            store.reopen(found.id, settings, request)
        elif found.settings != settings or request.path != found.path:
            raise KernelLspError(
                f"Run {found.id} is {found.status}: stop it first, or leave --rounds, --minutes "
                "and --path away to go on as it is."
            )
        engine = Engine(store.path, options.interpreter)
        launch(store, engine, found.id, detach=options.detach)
        return see_through(store, engine, found.id, detach=options.detach, as_json=options.json)


def _say_finished(found: Run, *, as_json: bool) -> None:
    if as_json:
        print_json(summary(found))
        return
    message = f"Run {found.id} is finished: {found.message.rstrip('.')}."
    console().print(f"{message} `--rounds N` goes on for N more rounds.", markup=False)


def _settings(found: Run, options: argparse.Namespace) -> SearchSettings:
    for name in ("rounds", "minutes"):
        given = getattr(options, name)
        if given is not None and (problem := out_of_range(name, given)):
            raise KernelLspError(f"--{name} {problem}.")
    settings = found.settings
    if options.rounds is not None:
        done = max((record.round for record in found.ideas), default=0)
        settings = evolve(settings, rounds=done + options.rounds)
    if options.minutes is not None:
        settings = evolve(settings, minutes=options.minutes)
    return settings


def _request(store: Store, found: Run, given: str | None) -> CaptureRequest:
    """The run's request with the file as it is now.

    Raises KernelLspError where the file is gone or the class in it is another one.
    """
    try:
        target = read_target(given or found.path)
    except KernelLspError as error:
        if given is not None:
            raise
        raise KernelLspError(
            f"{found.path} is not there any more: say with --path where the file is now."
        ) from error
    if fingerprint(target.text, found.qualname) != found.fingerprint:
        raise KernelLspError(
            f"{found.qualname} in {target.path.name} is not what run {found.id} was started for: "
            f"start a new search with `kernel-lsp optimize {target.path.name}`."
        )
    recorded = found.request.recorded or recorded_of(
        store, str(target.path), found.qualname, found.fingerprint
    )
    return evolve(found.request, path=str(target.path), text=target.text, recorded=recorded)
