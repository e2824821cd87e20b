"""``kernel-lsp optimize``: start a search (or join the one that runs) and watch it."""

from __future__ import annotations

import argparse
import ast

from kernel_lsp.cli.engine_call import add_interpreter
from kernel_lsp.cli.settings_arguments import add_settings, settings_from
from kernel_lsp.cli.target import Target, read_target
from kernel_lsp.cli.watch import launch, see_through
from kernel_lsp.engine import Engine
from kernel_lsp.modules import choose_class
from search_engine.errors import KernelLspError
from search_engine.recording import RecordedCall
from search_engine.settings import SearchSettings
from search_engine.source import fingerprint
from search_engine.store.store import Store
from search_engine.task import CaptureRequest

_SETTINGS = (
    "rounds", "ideas", "branches", "seeds", "minutes", "device", "target",
    "stop_at_limit", "configurations", "sweep_seconds", "import_timeout", "kernel_timeout",
    "cache_gigabytes", "unguarded",
)  # fmt: skip


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
        run_id = _start(store, target, settings)
        launch(store, engine, run_id, detach=options.detach)
        return see_through(store, engine, run_id, detach=options.detach, as_json=options.json)


def _start(store: Store, target: Target, settings: SearchSettings) -> str:
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
        recorded=recorded_of(store, str(target.path), qualname, digest),
    )
    run_id, _ = store.start_run(request, qualname, digest, settings)
    return run_id


def recorded_of(
    store: Store, path: str, qualname: str, digest: str | None
) -> tuple[RecordedCall, ...]:
    """What ``kernel-lsp record`` saw of the class as it is now."""
    recording = store.recordings(path).get(qualname)
    return () if recording is None else recording.usable(digest)


def _unreadable(target: Target, qualname: str) -> str:
    """Why the class cannot be searched for: a syntax error with its line, or its absence."""
    try:
        ast.parse(target.text)
    except SyntaxError as error:
        return f"{target.path.name}, line {error.lineno}: {error.msg}. Mend it, then try again."
    return f"{target.path.name} has no class {qualname}: check the name behind `::`."
