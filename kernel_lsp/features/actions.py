"""Code actions: what the lenses offer, for keyboards and for editors without lenses."""

from __future__ import annotations

from collections.abc import Sequence

from lsprotocol import types as lsp

from kernel_lsp.documents import View
from kernel_lsp.features.lens import arguments
from kernel_lsp.inputs import skeleton
from kernel_lsp.offers import INSERT_INPUTS, OPTIMIZE, offers
from kernel_lsp.session import Session
from kernel_lsp.state import Standing

KIND = lsp.CodeActionKind.RefactorRewrite
DESCRIBE = "Describe inputs for kernel-lsp"


def code_actions(
    session: Session, uri: str, line: int, only: Sequence[str] | None
) -> list[lsp.CodeAction | lsp.Command]:
    """The actions of the class around a line."""
    if only and not any(kind == KIND or KIND.startswith(f"{kind}.") for kind in only):
        return []
    view = session.view(uri)
    module = None if view is None else view.modules.at(line)
    if view is None or module is None:
        return []
    found = session.standing(view, module)
    actions = [
        _action(session, offer.action, offer.command, view, found) for offer in offers(found)
    ]
    if any(offer.command == OPTIMIZE for offer in offers(found)):
        actions += _describe(session, view, found)
    return actions


def _action(
    session: Session, title: str, command: str, view: View, found: Standing
) -> lsp.CodeAction | lsp.Command:
    order = lsp.Command(title=title, command=command, arguments=arguments(view, found))
    if not session.capabilities.literal_actions:
        return order
    return lsp.CodeAction(title=title, kind=KIND, command=order)


def _describe(session: Session, view: View, found: Standing) -> list[lsp.CodeAction | lsp.Command]:
    """Where the inputs are not known: the comment that says them, to be filled in."""
    edit = inputs_edit(view, found)
    if edit is None:
        return []
    if not session.capabilities.literal_actions:
        return [_action(session, DESCRIBE, INSERT_INPUTS, view, found)]
    changes = workspace_edit(session, view, [edit])
    return [lsp.CodeAction(title=DESCRIBE, kind=KIND, edit=changes)]


def inputs_edit(view: View, found: Standing) -> lsp.TextEdit | None:
    """The edit that inserts the comment, None where the file says the inputs.

    What was recorded of the class fills it in.
    """
    module = found.module
    recorded = () if found.recording is None else found.recording.usable(module.fingerprint)
    line = skeleton(view, module, recorded[0].description if recorded else "")
    if line is None:
        return None
    ending = "\r\n" if "\r\n" in view.text else "\n"
    here = lsp.Position(module.start, 0)
    return lsp.TextEdit(lsp.Range(here, here), line + ending)


def workspace_edit(
    session: Session, view: View, edits: Sequence[lsp.TextEdit]
) -> lsp.WorkspaceEdit:
    """Text edits of one open file, versioned where the client can."""
    if not session.capabilities.document_changes:
        return lsp.WorkspaceEdit(changes={view.uri: list(edits)})
    document = lsp.OptionalVersionedTextDocumentIdentifier(uri=view.uri, version=view.version)
    return lsp.WorkspaceEdit(document_changes=[lsp.TextDocumentEdit(document, list(edits))])
