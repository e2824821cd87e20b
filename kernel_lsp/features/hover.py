"""Hover on a class's header or on its ``forward``: ideas, timings, the winner and why."""

from __future__ import annotations

import re

from lsprotocol import types as lsp

from kernel_lsp.documents import View
from kernel_lsp.modules import ModuleClass
from kernel_lsp.session import Session
from kernel_lsp.state import Standing

_STANDING = {
    "offered": "It waits for your decision: *Accept* or *Reject* at the class.",
    "outdated": "The class changed since this kernel was verified: search again.",
    "accepted": "Accepted: it is in place in this file.",
    "stale": "The class changed since its kernel was verified: the original forward runs until "
    "you search again.",
}
_MARKUP = re.compile(r"\\(.)|\*\*|(?<!\\)\*")


def hover(session: Session, uri: str, position: lsp.Position) -> lsp.Hover | None:
    """What is known of the class under the cursor; None where nothing was."""
    view = session.view(uri)
    found = None if view is None else _under(view, position)
    if view is None or found is None:
        return None
    module, where = found
    here = session.standing(view, module)
    text = _text(session, here)
    if not text:
        return None
    if session.capabilities.markdown:
        return lsp.Hover(lsp.MarkupContent(lsp.MarkupKind.Markdown, text), where)
    return lsp.Hover(lsp.MarkupContent(lsp.MarkupKind.PlainText, plain(text)), where)


def _text(session: Session, found: Standing) -> str:
    from kernel_lsp.presentation import recording_markdown

    recorded = ""
    if found.recording is not None:
        changed = found.recording.changed(found.module.fingerprint)
        recorded = recording_markdown(found.recording, changed=changed)
    return "\n".join(filter(None, [_of_run(session, found), recorded]))


def _of_run(session: Session, found: Standing) -> str:
    run = found.run
    if run is None:
        return ""
    from kernel_lsp.presentation import run_markdown

    if found.phase in ("accepted", "stale") and found.in_place is not None:
        run = found.in_place
    known = session.hovers.get(run.id)
    if known is None or known[0] is not run or known[1] != found.phase:
        known = (run, found.phase, run_markdown(run, _STANDING.get(found.phase, "")))
        session.hovers[run.id] = known
    return known[2]


def _under(view: View, position: lsp.Position) -> tuple[ModuleClass, lsp.Range] | None:
    module = view.modules.at(position.line)
    if module is None:
        return None
    if position.line == module.line:
        end = module.name_column + module.name_width
    elif position.line == module.forward_line:
        end = module.forward_column + len("forward")
    else:
        return None
    # The keyword counts too: a cursor that jumped to the line stands on it.
    line = view.line(position.line)
    start = len(line) - len(line.lstrip())
    if not start <= view.column(position) <= end:
        return None
    return module, lsp.Range(view.position(position.line, start), view.position(position.line, end))


def plain(markdown: str) -> str:
    """The same text for a client that shows no markdown."""
    return _MARKUP.sub(lambda match: match[1] or "", markdown)
