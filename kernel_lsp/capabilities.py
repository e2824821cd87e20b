"""What the client can do, resolved once into plain booleans."""

from __future__ import annotations

from attrs import frozen
from lsprotocol import types as lsp
from pygls.capabilities import get_capability


@frozen
class Capabilities:
    """The client's side, as far as it decides what the server sends."""

    lens_refresh: bool = False
    inlay_refresh: bool = False
    progress: bool = False
    configuration: bool = False
    watch_configuration: bool = False  # didChangeConfiguration can be registered dynamically
    show_document: bool = False
    markdown: bool = False
    literal_actions: bool = False  # CodeAction objects, not only commands
    apply_edit: bool = False
    document_changes: bool = False  # versioned edits, resource operations among them
    create_files: bool = False
    delete_files: bool = False
    annotations: bool = False
    opens_diffs: bool = False  # ours: the client shows `kernelLsp.showDiff`'s answer itself

    @staticmethod
    def of(client: lsp.ClientCapabilities) -> Capabilities:
        """The booleans of a client's capabilities."""

        def has(path: str) -> bool:
            return bool(get_capability(client, path, False))

        operations = get_capability(client, "workspace.workspace_edit.resource_operations") or []
        formats = get_capability(client, "text_document.hover.content_format") or []
        literals = "text_document.code_action.code_action_literal_support"
        return Capabilities(
            lens_refresh=has("workspace.code_lens.refresh_support"),
            inlay_refresh=has("workspace.inlay_hint.refresh_support"),
            progress=has("window.work_done_progress"),
            configuration=has("workspace.configuration"),
            watch_configuration=has("workspace.did_change_configuration.dynamic_registration"),
            show_document=has("window.show_document.support"),
            markdown=lsp.MarkupKind.Markdown in formats,
            literal_actions=get_capability(client, literals) is not None,
            apply_edit=has("workspace.apply_edit"),
            # Neovim leaves `documentChanges` unset, but resource operations can be sent
            # in no other shape.
            document_changes=has("workspace.workspace_edit.document_changes") or bool(operations),
            create_files=lsp.ResourceOperationKind.Create in operations,
            delete_files=lsp.ResourceOperationKind.Delete in operations,
            annotations=get_capability(client, "workspace.workspace_edit.change_annotation_support")
            is not None,
            opens_diffs=_own(client, "showDiff"),
        )


def _own(client: lsp.ClientCapabilities, name: str) -> bool:
    """A capability of ours: ``experimental.kernelLsp.<name>``."""
    experimental = client.experimental
    own = _entry(experimental, "kernelLsp")
    return bool(_entry(own, name))


def _entry(value: object, name: str) -> object:
    if isinstance(value, dict):
        return value.get(name)
    return getattr(value, name, None)
