"""All state of one connection: client, settings, documents, store, searches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsprotocol import types as lsp

from kernel_lsp.capabilities import Capabilities
from kernel_lsp.documents import Documents, Drawn, View
from kernel_lsp.features.progress import SearchProgress
from kernel_lsp.modules import ModuleClass
from kernel_lsp.offers import offers
from kernel_lsp.searches import Processes, Searches
from kernel_lsp.settings import SECTION, ServerSettings, read_settings
from kernel_lsp.state import ClassRuns, Phase, Standing, headline, standing
from kernel_lsp.storage import Storage
from kernel_lsp.watcher import Watcher

if TYPE_CHECKING:
    from kernel_lsp.server import KernelLanguageServer
    from search_engine.store.records import Run

logger = logging.getLogger(__name__)

_CONFIGURATION_SECONDS = 3.0  # a client that never answers must not hold up the first command

EngineFactory = Callable[[Path, str], Processes]


class Session:
    """What the handlers work on."""

    def __init__(self, server: KernelLanguageServer, engine: EngineFactory) -> None:
        self.server = server
        self.capabilities = Capabilities()
        self.settings = ServerSettings()
        self.documents = Documents()
        self.lenses: dict[str, dict[int, Drawn]] = {}  # of the last answer, by file and class
        self.hovers: dict[str, tuple[Run, Phase, str]] = {}  # the last text by run
        self.ready = asyncio.Event()  # settings are read, the store may be looked at
        self._initial = ServerSettings()
        self._engine_factory = engine
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._shown: dict[str, object] = {}
        self._store_problem: str | None = None
        self._told: set[str] = set()
        self.progress = SearchProgress(self)
        # Made by `_connect`, once the client is answered: finding the data folder takes time.
        self.connected = False
        self.storage: Storage
        self.processes: Processes
        self.searches: Searches
        self.watcher: Watcher

    def _connect(self) -> None:
        """Storage, processes and watcher for the store that the settings name."""
        self.connected = True
        path = self.settings.store_path
        self.storage = Storage(path)
        self.processes = self._engine_factory(path, self.settings.interpreter)
        self.searches = Searches(self.storage, self.processes, self.error)
        self.watcher = Watcher(self.storage, self._watched, self._changed, self._store_failed)

    # --- life -------------------------------------------------------------------------

    def initialize(self, params: lsp.InitializeParams) -> None:
        """Take in the client's capabilities and initialization options."""
        self.capabilities = Capabilities.of(params.capabilities)
        options = params.initialization_options
        self._initial, problems = read_settings(options)
        self._apply(self._initial, problems)

    async def initialized(self) -> None:
        """Read the configuration, then watch the store."""
        self._connect()
        if self.capabilities.watch_configuration:
            registration = lsp.Registration(
                id="kernel-lsp-configuration",
                method=lsp.WORKSPACE_DID_CHANGE_CONFIGURATION,
                register_options=lsp.DidChangeConfigurationRegistrationOptions(section=SECTION),
            )
            self.spawn(self._register(registration))
        await self.read_configuration()
        self.ready.set()
        self._watch()

    async def _register(self, registration: lsp.Registration) -> None:
        await self.server.client_register_capability_async(lsp.RegistrationParams([registration]))

    def close(self) -> None:
        """Stop watching; searches go on by themselves."""
        for task in list(self._tasks):
            task.cancel()
        if self.connected:
            self.storage.close()

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something in the background; what it raises is a line in the log."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a background task failed", exc_info=error)

    def _watch(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        self._watching = self.spawn(self.watcher.run())

    # --- settings ---------------------------------------------------------------------

    async def read_configuration(self, pushed: object = None) -> None:
        """Ask the client for the section ``kernel-lsp``; take what was pushed where it cannot."""
        value = pushed.get(SECTION) if isinstance(pushed, dict) else None
        if self.capabilities.configuration:
            try:
                answer = await asyncio.wait_for(
                    self.server.workspace_configuration_async(
                        lsp.ConfigurationParams([lsp.ConfigurationItem(section=SECTION)])
                    ),
                    _CONFIGURATION_SECONDS,
                )
                value = answer[0] if answer else None
            except Exception as error:  # noqa: BLE001 - any client, any reason: go on without
                logger.warning("the client gave no configuration: %s", error)
        settings, problems = read_settings(value, self._initial)
        self._apply(settings, problems)

    def _apply(self, settings: ServerSettings, problems: list[str]) -> None:
        for problem in problems:
            if problem not in self._told:  # the same mistake may come with every change
                self._told.add(problem)
                self.warn(problem)
        before, self.settings = self.settings, settings
        if not self.connected:
            return
        if settings.store_path != before.store_path:
            self.storage.close()
            self._connect()
            if self._watching is not None:
                self._watch()
        else:
            self.processes.interpreter = settings.interpreter

    # --- documents and where their classes stand --------------------------------------

    def view(self, uri: str) -> View | None:
        """The current version of an open Python file."""
        return self.documents.view(self.server.workspace, uri)

    def opened(self, item: lsp.TextDocumentItem) -> None:
        """Take up a document that the editor opened."""
        if self.documents.open(item) and self.connected:
            self.watcher.wake()

    def closed(self, uri: str) -> None:
        """Forget a document that the editor closed."""
        self.documents.close(uri)
        self.lenses.pop(uri, None)

    def standing(self, view: View, module: ModuleClass) -> Standing:
        """Where a class of a view stands."""
        return standing(module, self.runs(view).get(module.qualname))

    def runs(self, view: View) -> Mapping[str, ClassRuns]:
        """What the store has of a view's classes, by qualified name."""
        return self.watcher.runs.get(view.path, {}) if self.connected else {}

    def standings(self, view: View) -> Iterator[Standing]:
        """Where every class of a view stands, in the order of the file."""
        runs = self.runs(view)
        return (standing(module, runs.get(module.qualname)) for module in view.modules.classes)

    def _watched(self) -> set[str]:
        return self.documents.paths() | self.progress.paths()

    async def cancel(self, token: lsp.ProgressToken) -> None:
        """Cancel of a search's progress: the search is asked to end."""
        from search_engine.errors import StoreError

        run_id = self.progress.cancelled(token)
        if run_id is None:
            return
        try:
            await self.searches.stop(run_id)
        except StoreError as error:
            self.error(str(error))
        await self.watcher.look(force=True)

    # --- what the watcher saw ---------------------------------------------------------

    async def _changed(self) -> None:
        runs: list[Run] = [
            found.latest
            for of_path in self.watcher.runs.values()
            for found in of_path.values()
            if found.latest is not None
        ]
        self.progress.update(runs)
        await self._refresh()
        if await self.searches.tend(runs):
            self.watcher.wake(force=True)

    async def _refresh(self) -> None:
        """Ask the client to draw anew, only where what it shows is another."""
        shown = {uri: self._drawn(uri) for uri in self.documents.uris()}
        if shown == self._shown:
            return
        self._shown = shown
        if self.capabilities.lens_refresh:
            self.spawn(self.server.workspace_code_lens_refresh_async(None))
        if self.capabilities.inlay_refresh:
            self.spawn(self.server.workspace_inlay_hint_refresh_async(None))

    def _drawn(self, uri: str) -> object:
        view = self.view(uri)
        if view is None:
            return None
        return tuple(
            (found.module.qualname, headline(found), offers(found))
            for found in self.standings(view)
            if found.run is not None or found.recording is not None
        )

    def store_failed(self, problem: str) -> None:
        """Say that a command met an unusable store; the watcher need not say it again."""
        self._store_problem = problem
        self.error(problem)

    def _store_failed(self, problem: str | None) -> None:
        """Say once that the store cannot be used, and again only after it could."""
        if problem is not None and problem != self._store_problem:
            self.error(problem)
        self._store_problem = problem

    # --- telling the user -------------------------------------------------------------

    def error(self, sentence: str) -> None:
        """One notification with what went wrong and what to do."""
        self._show(lsp.MessageType.Error, sentence)

    def warn(self, sentence: str) -> None:
        """One notification of something to mend."""
        self._show(lsp.MessageType.Warning, sentence)

    def info(self, sentence: str) -> None:
        """One notification of something that worked."""
        self._show(lsp.MessageType.Info, sentence)

    def _show(self, kind: lsp.MessageType, sentence: str) -> None:
        self.server.window_show_message(lsp.ShowMessageParams(kind, sentence))
