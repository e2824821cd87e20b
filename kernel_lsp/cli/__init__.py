"""The command line: ``kernel-lsp``.

Exit codes: 0 done, 1 no better kernel or rejected, 2 usage or set-up. Commands are
imported when they run, so that ``kernel-lsp serve`` answers an editor quickly.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from kernel_lsp import __version__

# name → (module under kernel_lsp.cli that has `add_arguments` and `run`, help)
COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("serve", "run the language server on standard input and output"),
    "optimize": ("optimize", "search for a faster kernel for one module"),
    "verify": ("verify", "check one .cu file against a module"),
    "runs": ("runs", "list searches"),
    "show": ("show", "show one search: ideas, kernels, verdicts, times"),
    "accept": ("decisions", "put a verified kernel into the project"),
    "reject": ("decisions", "decline the kernel that a search offers"),
    "revert": ("decisions", "take an accepted kernel out again"),
    "stop": ("stop", "ask a running search to end"),
    "resume": ("resume", "let a search go on where it was"),
    "record": ("record", "run a script and keep what its modules are called on"),
    "export": ("export", "write one search into a file"),
    "import": ("import_run", "take in a search from a file"),
    "doctor": ("doctor", "say what is found on this machine and what is missing"),
}


def _parser(command: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kernel-lsp",
        description="Make PyTorch modules faster with verified CUDA-C kernels.",
        epilog="Exit codes: 0 done, 1 no better kernel or rejected, 2 usage or set-up.",
    )
    parser.add_argument("--version", action="version", version=f"kernel-lsp {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, text) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == command:
            importlib.import_module(f"kernel_lsp.cli.{module}").add_arguments(sub)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the result is the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    named = next((word for word in arguments if word in COMMANDS), None)
    options = _parser(named).parse_args(arguments)
    if options.command == "serve":
        from kernel_lsp.cli import serve

        return serve.run(options)

    from search_engine.errors import KernelLspError

    command = importlib.import_module(f"kernel_lsp.cli.{COMMANDS[options.command][0]}")
    try:
        return int(command.run(options))
    except KernelLspError as error:
        from kernel_lsp.cli.output import fail

        return fail(error, as_json=getattr(options, "json", False))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output went away (`kernel-lsp runs | head`).
        sys.stderr.close()
        return 0
