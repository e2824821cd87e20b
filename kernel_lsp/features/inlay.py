"""Inlay hint: the measured speedup behind the header of a class whose kernel is in place."""

from __future__ import annotations

from lsprotocol import types as lsp

from kernel_lsp.session import Session
from kernel_lsp.state import changed


def inlay_hints(session: Session, uri: str, within: lsp.Range) -> list[lsp.InlayHint]:
    """The hints of the lines asked for. An estimate is no speedup and gets none."""
    view = session.view(uri)
    if view is None:
        return []
    hints = []
    for found in session.standings(view):
        module, run = found.module, found.in_place
        if run is None or not within.start.line <= module.line <= within.end.line:
            continue
        winner = run.winner
        if winner is None or winner.measurement is None or changed(module, run):
            continue
        from kernel_lsp.presentation import headline_phrase, kernel_phrase

        end = len(view.line(module.line).rstrip())
        hints.append(
            lsp.InlayHint(
                position=view.position(module.line, end),
                label=headline_phrase(winner.measurement),
                tooltip=f"{kernel_phrase(winner)} on {winner.measurement.device}",
                padding_left=True,
            )
        )
    return hints
