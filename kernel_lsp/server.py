"""The language server: which request goes to which part."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from lsprotocol import types as lsp
from pygls.lsp.server import LanguageServer

from kernel_lsp import __version__
from kernel_lsp.engine import Engine
from kernel_lsp.features import actions, hover, inlay, lens
from kernel_lsp.offers import COMMANDS
from kernel_lsp.protocol import Encoded, Protocol
from kernel_lsp.session import EngineFactory, Session
from kernel_lsp.stdio import own_streams

logger = logging.getLogger(__name__)


class KernelLanguageServer(LanguageServer):
    """pygls's server with a session."""

    protocol: Protocol

    def __init__(self, engine: EngineFactory) -> None:
        super().__init__("kernel-lsp", __version__, protocol_cls=Protocol)
        self.session = Session(self, engine)

    def report_server_error(self, error: Exception, source: Any) -> None:
        """A bug is a line in the log: pygls would show a notification per keystroke."""
        logger.error("%s: %s", getattr(source, "__name__", source), error, exc_info=error)


def create_server(*, engine: EngineFactory = Engine) -> KernelLanguageServer:
    """A server that starts searches through ``engine(store path, interpreter)``."""
    server = KernelLanguageServer(engine)
    _life(server)
    _documents(server)
    _features(server)
    for name in COMMANDS:
        _command(server, name)
    return server


def _life(server: KernelLanguageServer) -> None:
    session = server.session

    @server.feature(lsp.INITIALIZE)
    def initialize(params: lsp.InitializeParams) -> None:
        session.initialize(params)

    @server.feature(lsp.INITIALIZED)
    async def initialized(params: lsp.InitializedParams) -> None:
        await session.initialized()

    @server.feature(lsp.SHUTDOWN)
    def shutdown(params: None) -> None:
        session.close()

    @server.feature(lsp.WORKSPACE_DID_CHANGE_CONFIGURATION)
    async def configuration(params: lsp.DidChangeConfigurationParams) -> None:
        await session.read_configuration(params.settings)

    @server.feature(lsp.WINDOW_WORK_DONE_PROGRESS_CANCEL)
    async def cancel(params: lsp.WorkDoneProgressCancelParams) -> None:
        await session.cancel(params.token)


def _documents(server: KernelLanguageServer) -> None:
    session = server.session

    @server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
    def opened(params: lsp.DidOpenTextDocumentParams) -> None:
        session.opened(params.text_document)

    @server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def closed(params: lsp.DidCloseTextDocumentParams) -> None:
        session.closed(params.text_document.uri)


def _features(server: KernelLanguageServer) -> None:
    session = server.session

    @server.feature(lsp.TEXT_DOCUMENT_CODE_LENS, lsp.CodeLensOptions(resolve_provider=False))
    def code_lens(params: lsp.CodeLensParams) -> Encoded:
        return lens.code_lenses(session, params.text_document.uri)

    @server.feature(lsp.TEXT_DOCUMENT_HOVER)
    def hovered(params: lsp.HoverParams) -> lsp.Hover | None:
        return hover.hover(session, params.text_document.uri, params.position)

    @server.feature(
        lsp.TEXT_DOCUMENT_CODE_ACTION, lsp.CodeActionOptions(code_action_kinds=[actions.KIND])
    )
    def code_action(params: lsp.CodeActionParams) -> list[lsp.CodeAction | lsp.Command]:
        line, only = params.range.start.line, params.context.only
        return actions.code_actions(session, params.text_document.uri, line, only)

    @server.feature(lsp.TEXT_DOCUMENT_INLAY_HINT)
    def inlay_hint(params: lsp.InlayHintParams) -> list[lsp.InlayHint]:
        return inlay.inlay_hints(session, params.text_document.uri, params.range)


def _command(server: KernelLanguageServer, name: str) -> None:
    @server.command(name)
    async def command(*arguments: Any) -> Any:
        from kernel_lsp.features.commands import execute

        return await execute(server.session, name, arguments)


def serve() -> None:
    """Serve over standard input and output until the editor ends."""
    logging.basicConfig(
        stream=sys.stderr, level=os.environ.get("KERNEL_LSP_LOG", "WARNING").upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )  # fmt: skip
    # The store's thread must not keep a request waiting for Python's usual 5 ms.
    sys.setswitchinterval(0.0005)
    stdin, stdout = own_streams()
    create_server().start_io(stdin, stdout)
