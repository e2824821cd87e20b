"""Code lenses: one line above each module with where it stands and what can be done."""

from __future__ import annotations

from typing import Any

from lsprotocol import types as lsp

from kernel_lsp.documents import Drawn, View
from kernel_lsp.offers import SHOW_RUN, offers
from kernel_lsp.protocol import Encoded
from kernel_lsp.session import Session
from kernel_lsp.state import Standing, headline

_WIDTH = 100  # characters of the first lens; a longer reason is in the hover


def code_lenses(session: Session, uri: str) -> Encoded:
    """The lenses of a file.

    Most classes of a large file are idle and where they were a keystroke ago. Their lenses
    are kept as JSON: to build and encode them again would be most of the request's time.
    """
    view = session.view(uri)
    if view is None:
        return Encoded("[]")
    encoded = session.server.protocol.encoded
    runs = session.runs(view)
    known, kept = session.lenses.get(uri, {}), {}
    lenses: list[str] = []
    for module in view.modules.classes:
        if module.qualname in runs:
            drawn = _of_class(view, session.standing(view, module))
            lenses += [encoded(lens) for lens in drawn]
            continue
        line = view.line(module.line)
        same = known.get(id(module))
        if same is None or same.line != line:
            drawn = _of_class(view, session.standing(view, module))
            same = Drawn(module, line, ",".join(encoded(lens) for lens in drawn))
        kept[id(module)] = same
        lenses.append(same.lenses)
    session.lenses[uri] = kept
    return Encoded(f"[{','.join(lenses)}]")


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
    lenses = []
    for place, (command, title) in enumerate(titles, 1 - len(titles)):
        # Neovim sorts a line's lenses by column, those of one column in no order at all:
        # each begins one column behind the one before, the last at the class's name. The
        # keyword and its blank leave room for six.
        start = view.position(found.module.line, found.module.name_column + place)
        order = lsp.Command(title=title, command=command, arguments=shared)
        lenses.append(lsp.CodeLens(lsp.Range(start, where.end), order))
    return lenses
