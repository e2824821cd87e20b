"""Who starts a search, who takes it up, and when it is given up."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import pytest_asyncio

from kernel_lsp import searches as module
from kernel_lsp.searches import Searches
from kernel_lsp.storage import Storage
from kernel_lsp.watcher import Reader, Watcher
from search_engine.errors import SetupError, StoreError
from search_engine.settings import SearchSettings
from search_engine.store.store import Store
from search_engine.task import CaptureRequest

REQUEST = CaptureRequest("/p/net.py", "class Net: ...", "Net")


class FakeProcesses:
    """Processes that do what a test says."""

    def __init__(self) -> None:
        self.interpreter = ""
        self.started: list[str] = []
        self.alive: set[str] = set()
        self.ended: dict[str, str | None] = {}
        self.signals: set[str] = set()
        self.refuses = False

    def start(self, run_id: str) -> None:
        if self.refuses:
            raise SetupError("No interpreter: choose one.")
        self.started.append(run_id)
        self.alive.add(run_id)

    def end(self, run_id: str, failure: str | None, *, signal: bool = False) -> None:
        self.alive.discard(run_id)
        self.ended[run_id] = failure
        if signal:
            self.signals.add(run_id)

    def running(self, run_id: str) -> bool:
        return run_id in self.alive

    def killed(self, run_id: str) -> bool:
        return run_id in self.signals

    def failure(self, run_id: str) -> str | None:
        return None if run_id in self.alive else self.ended.get(run_id)

    def kill(self, run_id: str) -> bool:
        self.end(run_id, "killed", signal=True)
        return True


@pytest.fixture
def store(tmp_path: Path):
    with Store(tmp_path / "kernel-lsp.db") as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="session")
async def storage(tmp_path: Path):
    opened = Storage(tmp_path / "kernel-lsp.db")
    yield opened
    opened.close()


@pytest.fixture
def processes() -> FakeProcesses:
    return FakeProcesses()


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def searches(storage: Storage, processes: FakeProcesses, notices: list[str]) -> Searches:
    return Searches(storage, processes, notices.append)


async def begin(searches: Searches) -> str:
    return await searches.start(REQUEST, "Net", "f", SearchSettings())


def lapse(store: Store, run_id: str) -> None:
    """The lease runs out, or a queued run grows old."""
    store._db.execute("UPDATE runs SET lease_until = 1, updated = 1 WHERE id = ?", (run_id,))


async def test_a_new_run_is_started_and_an_active_one_joined(searches, processes, store):
    run_id = await begin(searches)
    assert await begin(searches) == run_id
    assert processes.started == [run_id]


async def test_another_servers_fresh_run_is_left_alone(searches, processes, store):
    run_id, _ = store.start_run(REQUEST, "Net", "f", SearchSettings())
    assert await begin(searches) == run_id
    assert not await searches.tend([store.run(run_id)])
    store.claim(run_id, "their process")
    assert not await searches.tend([store.run(run_id)])
    assert processes.started == []
    lapse(store, run_id)
    assert await begin(searches) == run_id
    assert processes.started == [run_id]


async def test_what_nobody_works_on_is_taken_up(searches, processes, store):
    run_id, _ = store.start_run(REQUEST, "Net", "f", SearchSettings())
    lapse(store, run_id)
    await searches.tend([store.run(run_id)])
    await searches.tend([store.run(run_id)])
    assert processes.started == [run_id], "its process is on its way"


async def test_a_killed_process_is_replaced_but_not_for_ever(searches, processes, store, notices):
    run_id = await begin(searches)
    for _ in range(6):
        store.claim(run_id, "process")
        lapse(store, run_id)
        processes.end(run_id, "ended by SIGKILL", signal=True)
        await searches.tend([store.run(run_id)])
    assert processes.started == [run_id] * 3
    assert store.run(run_id).status == "failed"
    assert len(notices) == 1


async def test_a_process_that_fails_fails_its_run(searches, processes, store, notices):
    run_id = await begin(searches)
    processes.end(run_id, "It has no torch.")
    assert await searches.tend([store.run(run_id)])
    assert store.run(run_id).status == "failed"
    assert store.run(run_id).message == "It has no torch."
    assert notices == ["Net: It has no torch."]


async def test_losing_the_claim_to_another_server_is_no_failure(searches, processes, store):
    run_id = await begin(searches)
    store.claim(run_id, "their process")
    processes.end(run_id, None)
    assert not await searches.tend([store.run(run_id)])
    processes.ended[run_id] = "exit code 1"
    before = store.run(run_id)
    assert before.alive
    assert not await searches.tend([before])
    assert store.run(run_id).active


async def test_a_run_claimed_meanwhile_is_not_closed(searches, processes, store):
    run_id = await begin(searches)
    processes.end(run_id, "exit code 1")
    seen = store.run(run_id)
    store.claim(run_id, "their process")
    assert not await searches.tend([seen])
    assert store.run(run_id).active


async def test_no_interpreter_fails_the_run_at_once(searches, processes, store):
    processes.refuses = True
    with pytest.raises(SetupError):
        await begin(searches)
    (run_id,) = store.run_ids()
    assert store.run(run_id).status == "failed"
    assert store.run(run_id).message == "No interpreter: choose one."


async def test_a_search_that_ignores_stop_is_killed(searches, processes, store, monkeypatch):
    run_id = await begin(searches)
    store.claim(run_id, "process")
    await searches.stop(run_id)
    await searches.tend([store.run(run_id)])
    assert processes.running(run_id)
    monkeypatch.setattr(module, "_KILL_SECONDS", 0.0)
    await searches.tend([store.run(run_id)])
    assert not processes.running(run_id)
    lapse(store, run_id)
    await searches.tend([store.run(run_id)])
    assert store.run(run_id).status == "stopped"
    assert processes.started == [run_id]


# --- the thread and the watcher -------------------------------------------------------


async def test_storage_hands_over_results_and_errors(storage, store):
    assert await storage.call(lambda opened: opened.run_ids()) == []
    with pytest.raises(StoreError, match="There is no run"):
        await storage.call(lambda opened: opened.run("none"))
    assert await storage.call(lambda opened: opened.run_ids()) == []


async def test_storage_finds_a_replaced_database(storage, tmp_path):
    def begin_one(opened: Store) -> None:
        opened.start_run(REQUEST, "Net", "f", SearchSettings())

    await storage.call(begin_one)
    for path in tmp_path.glob("kernel-lsp.db*"):
        path.unlink()
    assert await storage.call(lambda opened: opened.run_ids()) == []


def test_the_reader_reads_what_changed(store, tmp_path, monkeypatch):
    with Store(tmp_path / "kernel-lsp.db") as writer:
        first, _ = writer.start_run(REQUEST, "Net", "f", SearchSettings())
        reader, paths = Reader(), frozenset({"/p/net.py"})
        found = reader.look(store, paths, force=False)
        assert found["/p/net.py"]["Net"].latest.id == first
        assert reader.look(store, paths, force=False) is None
        writer.finish(first, "finished", "Nothing faster found.")
        writer.decide(first, "accepted")
        time.sleep(0.01)
        second, _ = writer.start_run(REQUEST, "Net", "f", SearchSettings())
        other = CaptureRequest("/p/other.py", "", "Net")
        writer.start_run(other, "Net", "f", SearchSettings())
        loaded: list[str] = []
        run = store.run
        monkeypatch.setattr(store, "run", lambda run_id: loaded.append(run_id) or run(run_id))
        runs = reader.look(store, paths, force=False)["/p/net.py"]["Net"]
        assert (runs.latest.id, runs.accepted.id) == (second, first)
        writer.set_progress(second, 1, "verifying")
        assert reader.look(store, paths, force=False)["/p/net.py"]["Net"].latest.round == 1
        assert loaded.count(first) == 1, "a run at its end is read once"
        assert reader.look(store, frozenset(), force=False) == {}


async def test_the_watcher_says_a_problem_and_its_end(storage, tmp_path):
    path = tmp_path / "kernel-lsp.db"
    problems: list[str | None] = []
    changes: list[int] = []

    async def changed() -> None:
        changes.append(1)

    watcher = Watcher(storage, lambda: ["/p/net.py"], changed, problems.append)
    await watcher.look()
    assert (problems, changes) == ([], []), "no store, nothing to say"
    path.write_bytes(b"rubbish" * 100)
    await watcher.look()
    assert "damaged" in (problems[-1] or "")
    path.unlink()
    with Store(path) as store:
        store.start_run(REQUEST, "Net", "f", SearchSettings())
        await watcher.look()
        assert problems[-1] is None
        assert watcher.active
        assert len(changes) == 1
