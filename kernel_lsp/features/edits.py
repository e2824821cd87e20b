"""Workspace edits of Accept and Revert, in the shape that the client can take.

Contents of created files are part of the edit where the client can preview edits (change
annotations). Elsewhere the edit creates the files and the server fills them in on disk:
a client without a preview may leave created text in an unsaved buffer (Neovim), and the
import in the user's file would find an empty module.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from attrs import frozen
from lsprotocol import types as lsp

from kernel_lsp.capabilities import Capabilities
from kernel_lsp.documents import View
from search_engine.deliver.delivery import Delivery

Change: TypeAlias = lsp.TextDocumentEdit | lsp.CreateFile | lsp.RenameFile | lsp.DeleteFile


@frozen
class Plan:
    """A workspace edit, and whether its created files come with their text."""

    edit: lsp.WorkspaceEdit
    label: str
    creates: bool
    fills: bool


def accept_plan(
    capabilities: Capabilities,
    view: View,
    delivery: Delivery,
    edits: Sequence[lsp.TextEdit],
    *,
    confirm: bool,
) -> Plan:
    """Create the delivered files and put the two lines into the user's file."""
    label = f"Use the CUDA kernel for {delivery.qualname}"
    if not capabilities.document_changes:
        return Plan(lsp.WorkspaceEdit(changes={view.uri: list(edits)}), label, False, False)
    notes = _Annotations(capabilities, confirm)
    changes: list[Change] = []
    if capabilities.create_files:
        note = notes.add("files", f"CUDA kernel for {delivery.qualname}", delivery.title)
        for name, text in delivery.files.items():
            uri = (view.file.parent / name).as_uri()
            changes.append(
                lsp.CreateFile(
                    uri=uri, options=lsp.CreateFileOptions(overwrite=True), annotation_id=note
                )
            )
            if capabilities.annotations:
                start = lsp.Range(lsp.Position(0, 0), lsp.Position(0, 0))
                created = lsp.OptionalVersionedTextDocumentIdentifier(uri=uri, version=None)
                changes.append(
                    lsp.TextDocumentEdit(created, notes.apply([lsp.TextEdit(start, text)], note))
                )
    note = notes.add("lines", "Import and decorator", delivery.summary)
    changes.append(_of_user(view, notes.apply(edits, note)))
    return Plan(
        notes.edit(changes), label, capabilities.create_files,
        capabilities.create_files and capabilities.annotations,
    )  # fmt: skip


def revert_plan(
    capabilities: Capabilities,
    view: View,
    delivery: Delivery,
    edits: Sequence[lsp.TextEdit],
    unchanged: Iterable[Path],
) -> Plan:
    """Take the lines out and delete the delivered files that are as they were delivered."""
    label = f"Revert {delivery.qualname} to its original forward"
    if not capabilities.document_changes:
        return Plan(lsp.WorkspaceEdit(changes={view.uri: list(edits)}), label, False, False)
    changes: list[Change] = [_of_user(view, list(edits))]
    if capabilities.delete_files:
        options = lsp.DeleteFileOptions(ignore_if_not_exists=True)
        changes += [lsp.DeleteFile(uri=path.as_uri(), options=options) for path in unchanged]
    return Plan(lsp.WorkspaceEdit(document_changes=changes), label, False, False)


def _of_user(
    view: View, edits: Sequence[lsp.TextEdit | lsp.AnnotatedTextEdit]
) -> lsp.TextDocumentEdit:
    document = lsp.OptionalVersionedTextDocumentIdentifier(uri=view.uri, version=view.version)
    return lsp.TextDocumentEdit(document, list(edits))


class _Annotations:
    """Change annotations where the client knows them, nothing where it does not."""

    def __init__(self, capabilities: Capabilities, confirm: bool) -> None:
        self._supported = capabilities.annotations
        self._confirm = confirm
        self._known: dict[str, lsp.ChangeAnnotation] = {}

    def add(self, name: str, label: str, description: str) -> str | None:
        if not self._supported:
            return None
        self._known[name] = lsp.ChangeAnnotation(
            label=label, needs_confirmation=self._confirm, description=description
        )
        return name

    def apply(
        self, edits: Sequence[lsp.TextEdit], note: str | None
    ) -> list[lsp.TextEdit | lsp.AnnotatedTextEdit]:
        if note is None:
            return list(edits)
        return [lsp.AnnotatedTextEdit(note, edit.range, edit.new_text) for edit in edits]

    def edit(self, changes: Sequence[Change]) -> lsp.WorkspaceEdit:
        return lsp.WorkspaceEdit(
            document_changes=list(changes), change_annotations=self._known or None
        )
