"""``kernel-lsp serve``: the language server over standard input and output."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Editors pass ``--stdio`` out of habit; it is the only way and may be left out."""
    parser.add_argument("--stdio", action="store_true", help="the default and only transport")


def run(options: argparse.Namespace) -> int:
    """Serve until the editor ends."""
    from kernel_lsp.server import serve

    serve()
    return 0
