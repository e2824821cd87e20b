"""An editor to test with: the real server over stdio, and a client that applies edits."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from lsprotocol import types as lsp
from pygls.uris import to_fs_path
from pygls.workspace import PositionCodec
from pytest_lsp import LanguageClient, make_test_lsp_client

NET = textwrap.dedent(
    '''\
    """A file of the user's."""

    import torch
    from torch import nn


    # kernel-lsp: x=float32[64, 256]
    class Net(nn.Module):
        def forward(self, x):
            return torch.softmax(x, -1)
    '''
)


def full_capabilities() -> lsp.ClientCapabilities:
    """What VS Code can, as far as the server asks."""
    return lsp.ClientCapabilities(
        workspace=lsp.WorkspaceClientCapabilities(
            apply_edit=True,
            configuration=True,
            code_lens=lsp.CodeLensWorkspaceClientCapabilities(refresh_support=True),
            inlay_hint=lsp.InlayHintWorkspaceClientCapabilities(refresh_support=True),
            workspace_edit=lsp.WorkspaceEditClientCapabilities(
                document_changes=True,
                resource_operations=[
                    lsp.ResourceOperationKind.Create,
                    lsp.ResourceOperationKind.Delete,
                ],
                change_annotation_support=lsp.ChangeAnnotationsSupportOptions(),
            ),
        ),
        text_document=lsp.TextDocumentClientCapabilities(
            hover=lsp.HoverClientCapabilities(content_format=[lsp.MarkupKind.Markdown]),
            code_action=lsp.CodeActionClientCapabilities(
                code_action_literal_support=lsp.ClientCodeActionLiteralOptions(
                    lsp.ClientCodeActionKindOptions([lsp.CodeActionKind.RefactorRewrite])
                )
            ),
        ),
        window=lsp.WindowClientCapabilities(
            work_done_progress=True,
            show_document=lsp.ShowDocumentClientCapabilities(support=True),
        ),
    )


class Editor:
    """One editor with one server and one open file.

    ``saves`` is whether text put into created files reaches the disk (VS Code saves
    refactorings, Neovim leaves the buffer unsaved). ``takes`` may refuse an edit or a part.
    """

    def __init__(self, client: LanguageClient, capabilities: lsp.ClientCapabilities) -> None:
        self.client = client
        self.capabilities = capabilities
        self.saves = True
        self.takes: Callable[[Any], bool] = lambda change: True
        self.applied = True
        self.edits: list[lsp.ApplyWorkspaceEditParams] = []
        self.refreshes: list[str] = []
        self.path = Path()
        self.text = ""
        self.version = 0
        self.codec = PositionCodec(lsp.PositionEncodingKind.Utf16)
        for method in (lsp.WORKSPACE_CODE_LENS_REFRESH, lsp.WORKSPACE_INLAY_HINT_REFRESH):
            client.feature(method)(lambda params, method=method: self.refreshes.append(method))
        client.feature(lsp.CLIENT_REGISTER_CAPABILITY)(lambda params: None)

        @client.feature(lsp.WORKSPACE_APPLY_EDIT)
        def apply(params: lsp.ApplyWorkspaceEditParams) -> lsp.ApplyWorkspaceEditResult:
            self.edits.append(params)
            if self.applied:
                self._apply(params.edit)
            return lsp.ApplyWorkspaceEditResult(applied=self.applied)

    async def open(self, path: Path, text: str | None = None) -> None:
        self.path, self.text, self.version = path, text or path.read_text(), 1
        item = lsp.TextDocumentItem(path.as_uri(), "python", 1, self.text)
        self.client.text_document_did_open(lsp.DidOpenTextDocumentParams(item))

    def close(self) -> None:
        document = lsp.TextDocumentIdentifier(self.path.as_uri())
        self.client.text_document_did_close(lsp.DidCloseTextDocumentParams(document))

    def change(self, text: str) -> None:
        self.text, self.version = text, self.version + 1
        self.client.text_document_did_change(
            lsp.DidChangeTextDocumentParams(
                lsp.VersionedTextDocumentIdentifier(self.version, self.path.as_uri()),
                [lsp.TextDocumentContentChangeWholeDocument(text)],
            )
        )

    def _apply(self, edit: lsp.WorkspaceEdit) -> None:
        for uri, edits in (edit.changes or {}).items():
            self._edit(uri, edits)
        for change in edit.document_changes or []:
            if not self.takes(change):
                continue
            if isinstance(change, lsp.CreateFile):
                path = Path(to_fs_path(change.uri) or "")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("")
            elif isinstance(change, lsp.DeleteFile):
                Path(to_fs_path(change.uri) or "").unlink(missing_ok=True)
            elif isinstance(change, lsp.TextDocumentEdit):
                wanted = change.text_document.version
                assert wanted is None or wanted == self.version
                self._edit(change.text_document.uri, change.edits)

    def _edit(self, uri: str, edits: Any) -> None:
        if uri == self.path.as_uri():
            self.change(self._edited(self.text, edits))
        elif self.saves:
            path = Path(to_fs_path(uri) or "")
            path.write_text(self._edited(path.read_text(), edits))

    def _edited(self, text: str, edits: Any) -> str:
        lines = text.splitlines(keepends=True) or [""]
        starts = [sum(len(line) for line in lines[:n]) for n in range(len(lines) + 1)]

        def offset(position: lsp.Position) -> int:
            if position.line >= len(lines):
                return len(text)
            here = lsp.Position(0, position.character)
            column = self.codec.position_from_client_units([lines[position.line]], here).character
            return starts[position.line] + column

        for edit in sorted(edits, key=lambda e: offset(e.range.start), reverse=True):
            start, end = offset(edit.range.start), offset(edit.range.end)
            text = text[:start] + edit.new_text + text[end:]
        return text

    # --- what a user sees and does ----------------------------------------------------

    async def lenses(self) -> list[lsp.CodeLens]:
        found = await self.client.text_document_code_lens_async(
            lsp.CodeLensParams(lsp.TextDocumentIdentifier(self.path.as_uri()))
        )
        return list(found or [])

    async def titles(self) -> list[str]:
        return [lens.command.title for lens in await self.lenses() if lens.command]

    async def click(self, title: str) -> Any:
        commands = [lens.command for lens in await self.lenses() if lens.command]
        command = next(c for c in commands if c.title == title)
        return await self.execute(command.command, *(command.arguments or []))

    async def execute(self, command: str, *arguments: Any) -> Any:
        return await self.client.workspace_execute_command_async(
            lsp.ExecuteCommandParams(command=command, arguments=list(arguments))
        )

    async def actions(self, line: int, only: list[str] | None = None) -> list[Any]:
        here = lsp.Range(lsp.Position(line, 0), lsp.Position(line, 0))
        found = await self.client.text_document_code_action_async(
            lsp.CodeActionParams(
                lsp.TextDocumentIdentifier(self.path.as_uri()),
                here,
                lsp.CodeActionContext([], only=only),
            )
        )
        return list(found or [])

    async def hover(self, line: int, character: int) -> str:
        found = await self.client.text_document_hover_async(
            lsp.HoverParams(
                lsp.TextDocumentIdentifier(self.path.as_uri()), lsp.Position(line, character)
            )
        )
        return "" if found is None else found.contents.value

    async def hints(self) -> list[lsp.InlayHint]:
        everything = lsp.Range(lsp.Position(0, 0), lsp.Position(10_000, 0))
        found = await self.client.text_document_inlay_hint_async(
            lsp.InlayHintParams(lsp.TextDocumentIdentifier(self.path.as_uri()), everything)
        )
        return list(found or [])

    async def until(
        self, condition: Callable[[], bool | Awaitable[bool]], what: str = "", seconds: float = 15
    ) -> None:
        """Wait for a condition; a failure says what the editor shows."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            met = condition()
            if await met if isinstance(met, Awaitable) else met:
                return
            await asyncio.sleep(0.05)
        pytest.fail(
            f"{what or 'the condition'} did not come; {await self.titles()}, {self.notices}"
        )

    async def until_lens(self, *titles: str) -> None:
        async def there() -> bool:
            shown = await self.titles()
            return all(any(title in lens for lens in shown) for title in titles)

        await self.until(there, f"lens {titles}")

    @property
    def notices(self) -> list[str]:
        return [message.message for message in self.client.messages]

    def line(self, text: str) -> int:
        return next(n for n, line in enumerate(self.text.splitlines()) if text in line)


@pytest.fixture
def capable() -> lsp.ClientCapabilities:
    return full_capabilities()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "project" / "net.py"
    path.parent.mkdir()
    path.write_text(NET)
    return path


@pytest.fixture
def interpreter(tmp_path: Path) -> Callable[[str], str]:
    """An "interpreter" that plays a scenario of ``stub_search.py``."""

    def make(scenario: str) -> str:
        stub = Path(__file__).with_name("stub_search.py")
        path = tmp_path / f"python-{scenario}"
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{stub}" {scenario} "$@"\n')
        path.chmod(0o755)
        return str(path)

    return make


@pytest_asyncio.fixture(loop_scope="session")
async def start(data: Path) -> AsyncIterator[Callable[..., Awaitable[Editor]]]:
    """Starts editors: ``await start(interpreter=…, capabilities=…, settings=…)``."""
    started: list[Editor] = []

    async def make(
        interpreter: str = "",
        capabilities: lsp.ClientCapabilities | None = None,
        settings: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
    ) -> Editor:
        client = make_test_lsp_client()
        editor = Editor(client, capabilities or full_capabilities())
        settings = {"interpreter": interpreter} | (settings or {})
        client.set_configuration({"kernel-lsp": settings})
        await client.start_io(
            sys.executable,
            *("-m", "kernel_lsp", "serve"),
            env=os.environ | {"KERNEL_LSP_DATA": str(data)} | (environment or {}),
        )
        result = await client.initialize_session(
            lsp.InitializeParams(
                capabilities=editor.capabilities,
                initialization_options=settings,
                root_uri=data.parent.as_uri(),
            )
        )
        editor.codec = PositionCodec(result.capabilities.position_encoding)
        started.append(editor)
        return editor

    yield make
    for editor in started:
        if editor.client._server is not None and editor.client._server.returncode is None:
            await editor.client.shutdown_session()
        await editor.client.stop()
