"""Corrections to pygls's protocol: lines as the protocol means them, and a shutdown that ends."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from typing import Any

from attrs import frozen
from lsprotocol import types as lsp
from pygls.protocol import LanguageServerProtocol, lsp_method
from pygls.protocol.json_rpc import MsgId
from pygls.workspace import TextDocument, Workspace

from kernel_lsp.chunks import lines_with_ends


class Document(TextDocument):
    """A document whose lines end at ``\\n``, ``\\r\\n`` and ``\\r`` only.

    pygls cuts with ``str.splitlines``, which also cuts at form feeds: incremental changes
    behind one would be applied to the wrong line.
    """

    _cut: tuple[str, list[str]] | None = None

    @property
    def lines(self) -> Sequence[str]:
        """Lines with their ends, kept until the text changes."""
        source = self.source
        if self._cut is None or self._cut[0] is not source:
            self._cut = (source, lines_with_ends(source))
        return self._cut[1]

    def _apply_incremental_change(self, change: lsp.TextDocumentContentChangePartial) -> None:
        """Put the changed lines between the others, which stay as they were cut."""
        lines = list(self.lines)
        where = self._position_codec.range_from_client_units(lines, change.range)
        first, last = where.start.line, where.end.line
        if change.range.start.line >= len(lines):
            self._source = self.source + change.text
            return
        behind = lines[last][where.end.character :]
        if change.range.end.line >= len(lines):
            behind = ""
        changed = lines[first][: where.start.character] + change.text + behind
        lines[first : last + 1] = lines_with_ends(changed)
        self._source = "".join(lines)
        # A lone carriage return may have met a line feed: then the lines are cut anew.
        self._cut = None if "\r" in self._source else (self._source, lines)


class PythonWorkspace(Workspace):
    """A workspace of such documents."""

    def _create_text_document(
        self,
        doc_uri: str,
        source: str | None = None,
        version: int | None = None,
        language_id: str | None = None,
    ) -> TextDocument:
        return Document(
            doc_uri,
            source=source,
            version=version,
            language_id=language_id,
            sync_kind=self._sync_kind,
            position_codec=self._position_codec,
        )


@frozen
class Encoded:
    """A result that is JSON already."""

    text: str


class Protocol(LanguageServerProtocol):
    """The language server's protocol."""

    def encoded(self, value: Any) -> str:
        """JSON of one of the protocol's types, as pygls would send it."""
        return json.dumps(value, default=self._serialize_message)

    def _send_response(
        self, msg_id: MsgId, result: Any | None = None, error: lsp.ResponseError | None = None
    ) -> None:
        """Send a result that was encoded before as it is, anything else as pygls does."""
        if error is not None or not isinstance(result, Encoded):
            super()._send_response(msg_id, result, error)
            return
        self._result_types.pop(msg_id, None)
        body = f'{{"jsonrpc":"2.0","id":{json.dumps(msg_id)},"result":{result.text}}}'.encode()
        header = f"Content-Length: {len(body)}\r\n\r\n".encode()
        if self.writer is not None:
            self.writer.write(header + body)

    @lsp_method(lsp.INITIALIZE)
    def lsp_initialize(
        self, params: lsp.InitializeParams
    ) -> Generator[Any, Any, lsp.InitializeResult]:
        """Answer ``initialize`` and put our workspace in the place of pygls's, still empty."""
        result = yield from super().lsp_initialize(params)
        folders = list(params.workspace_folders or [])
        self._workspace = PythonWorkspace(
            self.workspace.root_uri,
            self._server._text_document_sync_kind,
            folders,
            self.workspace.position_encoding,
        )
        return result

    @lsp_method(lsp.SHUTDOWN)
    def lsp_shutdown(self, *args: Any) -> Generator[Any, Any, None]:
        """Cancel what is in flight and answer.

        pygls walks the live dictionary of requests, from which each cancelled one removes
        itself, and fails with a request in flight (pygls #606).
        """
        handler = self.fm.features.get(lsp.SHUTDOWN)
        if handler is not None:
            yield handler, args, None
        current = self.msg_id
        for msg_id, future in list(self._request_futures.items()):
            if msg_id != current and not future.done():
                future.cancel()
        self._shutdown = True
