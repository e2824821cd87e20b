"""``kernel-lsp resume``: what goes on, what does not, and why."""

import itertools
import time
from pathlib import Path

import pytest

from kernel_lsp.cli import main
from search_engine.store import store as store_module
from search_engine.store.store import Store

ENDS = """
from pathlib import Path
from search_engine.store.store import Store
run_id, store = arguments[1], Store(Path(arguments[3]))
assert store.claim(run_id, "stub")
store.add_event(run_id, "notice", f"up to round {store.run(run_id).settings.rounds}")
store.finish(run_id, "finished", "Nothing faster found.")
"""


@pytest.fixture
def stopped(finished: str) -> str:
    with Store() as store:
        store.reopen(finished)
        store.finish(finished, "stopped", "Stopped.")
    return finished


def reaches(condition) -> bool:
    """Whether something comes to be, within half a minute."""
    for _ in range(150):
        if condition():
            return True
        time.sleep(0.2)
    return False


def test_a_stopped_run_goes_on(stopped, engine_stub, capsys):
    assert main(["resume", stopped, "--interpreter", engine_stub(ENDS)]) == 1
    shown = capsys.readouterr().out
    assert "up to round 5" in shown
    assert "Nothing faster found." in shown


def test_a_finished_run_says_so_and_goes_on_for_more_rounds(finished, engine_stub, capsys):
    stub = engine_stub(ENDS)
    assert main(["resume", finished, "--interpreter", stub]) == 0
    assert f"Run {finished} is finished: A faster kernel is verified." in capsys.readouterr().out
    with Store() as store:
        assert store.run(finished).decision == "pending", "only looked at"
    assert main(["resume", finished, "--rounds", "2", "--interpreter", stub]) == 1
    assert "up to round 3" in capsys.readouterr().out, "one round was done"


def test_a_killed_run_is_taken_up(stopped, engine_stub, capsys):
    with Store() as store:
        store.reopen(stopped)  # queued, and nobody works on it
    stub = engine_stub(ENDS)
    assert main(["resume", stopped, "--rounds", "2", "--interpreter", stub]) == 2
    assert "is queued: stop it first" in capsys.readouterr().err
    assert main(["resume", stopped, "--interpreter", stub]) == 1


def test_a_run_killed_just_now_is_taken_up_with_nobody_watching(
    stopped, engine_stub, capsys, monkeypatch
):
    monkeypatch.setattr(store_module, "LEASE_SECONDS", 1.0)
    with Store() as store:
        store.reopen(stopped)
        assert store.claim(stopped, "killed")
    assert main(["resume", stopped, "--detach", "--interpreter", engine_stub(ENDS)]) == 0
    with Store() as store:
        assert reaches(lambda: store.run(stopped).status == "finished")


def test_a_run_that_somebody_works_on_is_left_to_them(stopped, engine_stub, capsys, monkeypatch):
    monkeypatch.setattr(store_module, "LEASE_SECONDS", 60.0)
    with Store() as store:
        store.reopen(stopped)
        assert store.claim(stopped, "alive")
        held = Store.lease_until
        # Each look finds the lease renewed.
        renewed = itertools.count()
        monkeypatch.setattr(
            Store, "lease_until", lambda self, run_id: held(self, run_id) + next(renewed)
        )
        assert main(["resume", stopped, "--detach", "--interpreter", engine_stub(ENDS)]) == 0
        assert store.run(stopped).status == "running"
        assert all("up to round" not in event.message for event in store.events(stopped))


def test_a_moved_file_is_pointed_to(stopped, net: Path, engine_stub, capsys):
    moved = net.rename(net.with_name("moved.py"))
    stub = engine_stub(ENDS)
    assert main(["resume", stopped, "--interpreter", stub]) == 2
    assert "--path" in capsys.readouterr().err
    moved.write_text("# another first line\n" + moved.read_text())
    assert main(["resume", stopped, "--path", str(moved), "--interpreter", stub]) == 1
    with Store() as store:
        run = store.run(stopped)
    assert run.path == run.request.path == str(moved)
    assert run.request.text == moved.read_text(), "the file as it is now is what runs"


def test_a_changed_class_needs_a_new_search(stopped, net: Path, engine_stub, capsys):
    net.write_text(net.read_text().replace("relu", "tanh"))
    assert main(["resume", stopped, "--interpreter", engine_stub(ENDS)]) == 2
    assert "kernel-lsp optimize net.py" in capsys.readouterr().err


def test_usage(stopped, capsys):
    assert main(["resume", stopped, "--rounds", "0"]) == 2
    assert "--rounds must be at least 1" in capsys.readouterr().err
    assert main(["resume", stopped, "--minutes", "nan"]) == 2
    assert "--minutes must be a finite number" in capsys.readouterr().err


def test_an_interpreter_that_is_not_there_fails_the_run(stopped, capsys):
    assert main(["resume", stopped, "--interpreter", "/nowhere/python"]) == 2
    with Store() as store:
        assert store.run(stopped).status == "failed"
