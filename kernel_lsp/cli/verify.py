"""``kernel-lsp verify``: the search's own verdict for any ``.cu`` file."""

from __future__ import annotations

import argparse
from typing import Any

from kernel_lsp.cli.engine_call import add_interpreter, call_engine
from kernel_lsp.cli.output import console, print_json
from kernel_lsp.cli.settings_arguments import add_settings
from kernel_lsp.cli.target import read_target

_SETTINGS = ("device", "target", "import_timeout", "kernel_timeout", "unguarded")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("file", metavar="FILE[::Class]", help="the module's file")
    parser.add_argument("kernel", metavar="KERNEL.cu", help="the kernel, launch lines included")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_settings(parser, _SETTINGS)
    add_interpreter(parser)


def run(options: argparse.Namespace) -> int:
    """Print the verdict; 0 accepted, 1 rejected."""
    target = read_target(options.file)
    arguments = ["verify", "--file", str(target.path), "--kernel", options.kernel]
    if target.qualname is not None:
        arguments += ["--class", target.qualname]
    for name in _SETTINGS:
        value = getattr(options, name)
        if value is True:
            arguments.append("--" + name.replace("_", "-"))
        elif value is not None:
            arguments += ["--" + name.replace("_", "-"), str(value)]
    answer = call_engine(arguments, options.interpreter)
    if options.json:
        print_json(answer)
    else:
        _print(answer["verdict"])
    return 0 if answer["verdict"]["accepted"] else 1


def _print(verdict: dict[str, Any]) -> None:
    out = console()
    word = "[green]accepted[/]" if verdict["accepted"] else "[red]rejected[/]"
    out.print(f"{word} on ", end="")
    out.print(f"{verdict['device']} ({verdict['seconds']:.1f} s)", markup=False)
    for finding in verdict["findings"]:
        line = "" if finding["line"] is None else f"line {finding['line']}: "
        place = "" if finding["place"] is None else f" ({finding['place']})"
        out.print(f"  {finding['check']}: {line}{finding['message']}{place}", markup=False)
    if verdict["accuracy"]:
        worst = max(verdict["accuracy"], key=lambda a: a["error"] / a["bound"])
        out.print(
            f"  worst error {worst['error']:.2g} of {worst['output']} ({worst['distribution']}); "
            f"eager's {worst['eager_error']:.2g}, bound {worst['bound']:.2g}",
            markup=False,
        )
    for note in verdict["notes"]:
        out.print(f"  note: {note}", markup=False)
