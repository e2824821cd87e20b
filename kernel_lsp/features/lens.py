"""Code lenses: one line above each module with where it stands and what can be done."""

from __future__ import annotations

from typing import Any

from lsprotocol import types as lsp

from kernel_lsp.documents import Drawn, View
from kernel_lsp.offers import SHOW_RUN, offers
from kernel_lsp.session import Session
from kernel_lsp.state import Standing, headline

_WIDTH = 100  # characters of the first lens; a longer reason is in the hover


def code_lenses(session: Session, uri: str) -> list[lsp.CodeLens]:
    """The lenses of a file."""
    view = session.view(uri)
    if view is None:
        return []
    known, kept = session.lenses.get(uri, {}), {}
    lenses: list[lsp.CodeLens] = []
    for found in session.standings(view):
        if found.run is not None:
            lenses += _of_class(view, found)
            continue
        # Most classes of a large file are idle and where they were a keystroke ago.
        module, line = found.module, view.line(found.module.line)
        drawn = known.get(id(module))
        if drawn is None or drawn.line != line:
            drawn = Drawn(module, line, _of_class(view, found))
        kept[id(module)] = drawn
        lenses += drawn.lenses
    session.lenses[uri] = kept
    return lenses


def arguments(view: View, found: Standing) -> list[dict[str, Any]]:
    """What every command gets: file, class, and the run that the user saw."""
    argument: dict[str, Any] = {"uri": view.uri, "qualname": found.module.qualname}
    if found.run is not None:
        argument["run"] = found.run.id
    return [argument]


def _of_class(view: View, found: Standing) -> list[lsp.CodeLens]:
    where = view.name_range(found.module)
    shared = arguments(view, found)
    titles = [(offer.command, offer.lens) for offer in offers(found)]
    first = headline(found)
    if first:
        titles.insert(0, (SHOW_RUN, first if len(first) <= _WIDTH else first[: _WIDTH - 1] + "…"))
    return [
        lsp.CodeLens(where, lsp.Command(title=title, command=command, arguments=shared))
        for command, title in titles
    ]
