"""``kernel-lsp import``: a search from a file that ``kernel-lsp export`` wrote."""

from __future__ import annotations

import argparse
from pathlib import Path

from attrs import evolve

from kernel_lsp.cli.output import console, print_json
from kernel_lsp.cli.run_json import summary
from kernel_lsp.cli.target import read_target
from search_engine.errors import KernelLspError
from search_engine.source import fingerprint
from search_engine.store.archive import unpack
from search_engine.store.portable import project_root
from search_engine.store.records import Run
from search_engine.store.store import Store

MOST_BYTES = 64 * 2**20  # of the file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("file", metavar="FILE", help="what `kernel-lsp export` wrote")
    parser.add_argument("--path", metavar="MODULE", help="where the module's file is here")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Put the run into the store, once."""
    archived = unpack(_read(Path(options.file).expanduser()), options.file)
    path = _place(archived.run, options.path)
    task = archived.run.task
    found = evolve(
        archived.run,
        path=path,
        request=evolve(archived.run.request, path=path),
        task=None if task is None else evolve(task, path=path),
    )
    with Store() as store:
        new = store.insert(found, archived.events)
        if not new and options.path is not None:
            store.move(found.id, path)
        found = store.run(found.id)
    if options.json:
        print_json(summary(found) | {"new": new})
    else:
        _tell(found, new)
    return 0


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise KernelLspError(f"{path} cannot be read ({error.strerror}).") from None
    if len(data) > MOST_BYTES:
        raise KernelLspError(f"{path} is larger than any run ({MOST_BYTES // 2**20} MB).")
    return data


def _place(run: Run, given: str | None) -> str:
    """Where the module's file is: as told, else at its place in this project."""
    if given is not None:
        target = read_target(given)
        if fingerprint(target.text, run.qualname) is None:
            raise KernelLspError(f"{given} has no class {run.qualname}: give the file that has it.")
        return str(target.path)
    here = Path.cwd()
    root = project_root(here / run.path)
    found = next((p for p in (here / run.path, root / run.path) if p.is_file()), here / run.path)
    return str(found.resolve())


def _tell(found: Run, new: bool) -> None:
    out = console()
    came = "is here now" if new else "was here already"
    out.print(f"Run {found.id} of {found.qualname} {came}: {found.message}", markup=False)
    if found.environment is not None and new:
        out.print(f"It ran on {found.environment}.", markup=False)
    problem = _problem(found)
    if problem:
        out.print(problem, markup=False)
    elif found.delivery is not None and new:
        out.print(
            "Its files were made elsewhere: look at them before you accept "
            f"(`kernel-lsp show {found.id} --diff`).",
            markup=False,
        )


def _problem(found: Run) -> str:
    """Why nothing but looking at the run will work, empty where nothing is in the way."""
    try:
        target = read_target(found.path)
    except KernelLspError:
        return (
            f"There is no {found.path}: import with --path MODULE to say where the module's file "
            "is, to accept the kernel or to go on."
        )
    if fingerprint(target.text, found.qualname) != found.fingerprint:
        return (
            f"{found.qualname} in {found.path} is another class than the run's: its kernel cannot "
            "be accepted there."
        )
    return ""
