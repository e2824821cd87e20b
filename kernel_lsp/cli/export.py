"""``kernel-lsp export``: one search as one file."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path

from kernel_lsp.cli.output import console, print_json
from kernel_lsp.cli.target import RUN_HELP, find_run
from search_engine.errors import KernelLspError
from search_engine.store.archive import pack
from search_engine.store.portable import project_root, without_paths
from search_engine.store.store import Store

SUFFIX = ".kernel-lsp.zip"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help=f"the file to write (default: CLASS-RUN{SUFFIX})"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Write the file."""
    with Store() as store:
        found = find_run(store, options.run)
        events = store.events(found.id)
    module = Path(found.path)
    root = project_root(module)
    data = pack(found, events, module.relative_to(root).as_posix(), without_paths(root))
    name = options.file or f"{found.qualname.rsplit('.', 1)[-1]}-{found.id}{SUFFIX}"
    path = Path(name).expanduser()
    _write(path, data)
    if options.json:
        print_json({"run": found.id, "file": str(path), "bytes": len(data)})
    else:
        console().print(
            f"Run {found.id} of {found.qualname} is in {path} ({len(data) / 1024:.0f} kB).",
            markup=False,
        )
    return 0


def _write(path: Path, data: bytes) -> None:
    """A new file, whole or not at all. Raises KernelLspError."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        raise KernelLspError(f"{path} exists: give another name.") from None
    except OSError as error:
        raise KernelLspError(f"{path} cannot be written ({error.strerror}).") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise KernelLspError(f"{path} cannot be written ({error.strerror}).") from None
