"""The process that holds a run's lease: killed, stopped, failing, taken over."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from fake_search import FakeBench, FakeProposer, start

from search_engine.errors import CaptureError
from search_engine.search import process
from search_engine.store.store import Store

SCRIPT = Path(__file__).with_name("fake_search.py")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


def search(path, run_id, bench=None, proposer=None):
    return process.main(
        run_id,
        path,
        open_bench=lambda request, settings: bench or FakeBench(),
        open_proposers=lambda settings, facts: [proposer or FakeProposer()],
    )


def test_from_start_to_end(path):
    with Store(path) as store:
        run_id = start(store, rounds=2)
        bench = FakeBench()
        assert search(path, run_id, bench) == 0
        run = store.run(run_id)
        assert run.status == "finished"
        assert run.message == "50.0 µs, ×4.00 over torch.compile, ×20.0 over eager; limit 1.00 µs"
        assert run.delivery is not None
        assert not run.alive
        assert bench.closed
        kinds = Counter(e.kind for e in store.events(run_id))
    assert kinds == {"capture": 1, "idea": 8, "verdict": 24, "measurement": 17, "end": 1}


def test_what_somebody_else_holds_is_left_alone(path):
    with Store(path) as store:
        run_id = start(store)
        store.claim(run_id, "another")
        bench = FakeBench()
        assert search(path, run_id, bench) == 0
        assert bench.calls == []
        assert store.run(run_id).status == "running"
        store.finish(run_id, "finished", "done")
        assert search(path, run_id, bench) == 0
        assert store.run(run_id).message == "done"


def test_what_the_user_can_mend_is_the_last_sentence(path):
    class Failing(FakeBench):
        def capture(self):
            raise CaptureError("net.py has a syntax error at line 3: mend it, then try again.")

    bench = Failing()
    with Store(path) as store:
        run_id = start(store)
        assert search(path, run_id, bench) == 0
        run = store.run(run_id)
    assert (run.status, run.message) == (
        "failed", "net.py has a syntax error at line 3: mend it, then try again."
    )  # fmt: skip
    assert bench.closed


def test_a_fault_of_our_own_is_one_sentence_and_a_traceback_in_the_log(path, caplog):
    class Broken(FakeBench):
        def verify(self, source):
            raise ZeroDivisionError("secret detail")

    with Store(path) as store:
        run_id = start(store)
        assert search(path, run_id, Broken()) == 0
        run = store.run(run_id)
    assert run.status == "failed"
    assert "ZeroDivisionError" in run.message
    assert "\n" not in run.message
    assert "secret detail" in caplog.text
    assert "Traceback" in caplog.text


def test_sigterm_stops_and_offers_what_there_is(path):
    class Terminated(FakeBench):
        def measure(self, source):
            if "idea 2" in source:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(10)  # the signal interrupts it
            return super().measure(source)

    before = signal.getsignal(signal.SIGTERM)
    with Store(path) as store:
        run_id = start(store, rounds=5)
        bench = Terminated()
        assert search(path, run_id, bench) == 0
        run = store.run(run_id)
    # The interrupted call's worker is not asked again.
    assert [what for what, _ in bench.calls][-3:] == ["reset", "render", "deliver"]
    assert run.status == "stopped"
    assert run.message.startswith("Stopped. 0.100 ms, ×2.00 over torch.compile")
    assert run.decision == "pending"
    assert signal.getsignal(signal.SIGTERM) is before


def test_stopped_while_its_end_is_checked_it_offers_what_there_is(path):
    class Terminated(FakeBench):
        def check_delivery(self, delivery, kernel, shape=0):
            if ("reset", "") not in self.calls:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(10)  # the signal interrupts it
            return super().check_delivery(delivery, kernel)

    with Store(path) as store:
        run_id = start(store, rounds=1)
        search(path, run_id, Terminated())
        run = store.run(run_id)
    assert (run.status, run.decision) == ("stopped", "pending")


def test_a_request_to_stop_interrupts_what_takes_long(path):
    class Slow(FakeBench):
        def prepare(self, sources):
            with Store(path) as other:
                other.request_stop(run_id)
            time.sleep(60)

    with Store(path) as store:
        run_id = start(store)
        started = time.monotonic()
        search(path, run_id, Slow())
        assert time.monotonic() - started < 30
        run = store.run(run_id)
    assert run.status == "stopped"
    assert run.message.startswith("Stopped. Nothing is offered")


def test_who_lost_the_lease_writes_nothing_more(path, monkeypatch):
    monkeypatch.setattr(process, "BEAT_SECONDS", 0.0)

    class Hanging(FakeBench):
        def verify(self, source):
            with Store(path) as other:
                other._db.execute("UPDATE runs SET lease_owner = 'another'")
            time.sleep(60)

    with Store(path) as store:
        run_id = start(store)
        bench = Hanging()
        assert search(path, run_id, bench) == 0
        run = store.run(run_id)
        assert run.status == "running"
        assert all(kernel.verdict is None for kernel in run.kernels)
    assert bench.closed


def lines_of(log):
    return log.read_text().splitlines() if log.exists() else []


def run_until_killed(path, run_id, log, steps, delay, kind):
    """A search that is killed ``delay`` seconds after so many more steps."""
    goal = len(lines_of(log)) + steps
    child = subprocess.Popen([sys.executable, str(SCRIPT), str(path), run_id, str(log), kind])
    while child.poll() is None:
        if len(lines_of(log)) >= goal:
            time.sleep(delay)
            child.kill()
            child.wait()
        time.sleep(0.003)
    return child.returncode


@pytest.mark.parametrize("kind", ["measures", "estimates"])
def test_killed_at_any_moment_it_goes_on_without_doing_finished_work_again(
    path, tmp_path, monkeypatch, kind
):
    log = tmp_path / "log"
    with Store(path) as store:
        run_id = start(store, rounds=3, ideas=3, branches=4)
    chance = random.Random(kind)
    kills = 0
    for _ in range(40):
        with Store(path) as store:
            before = store.run(run_id)
            if not before.active:
                break
            # The dead search's lease has run out by the time of the next one.
            store._db.execute("UPDATE runs SET lease_until = 0")
        marked = len(lines_of(log))
        done = {k.source.split(" seconds")[0][3:] for k in before.kernels if k.finished}
        steps, delay = chance.randint(10, 45), 0.02 * chance.random()
        kills += run_until_killed(path, run_id, log, steps, delay, kind) == -signal.SIGKILL
        again = [line.split("|") for line in lines_of(log)[marked:]]
        judged = {name for what, name in again if what in ("verify", "measure", "estimate")}
        assert not judged & done
    with Store(path) as store:
        run = store.run(run_id)
    assert kills >= 2
    assert run.status == "finished"
    assert [r.round for r in run.ideas] == [1] * 3 + [2] * 3 + [3] * 3
    assert len(run.kernels) == 3 * 3 * 4
    assert len({k.source for k in run.kernels}) == 36
    assert all(k.finished and k.verdict is not None for k in run.kernels)
    assert len(run.accepted_kernels) == 27
    assert run.delivery is not None
