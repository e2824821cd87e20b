"""Runs that ended and go on: nothing twice, and what differs is said."""

import pytest
from attrs import evolve
from fake_search import TASK, FakeBench, FakeProposer, kernel_text, start

from search_engine.hardware import H200
from search_engine.judgement import DeviceInfo
from search_engine.proposers._base import Branch
from search_engine.search import environment, process
from search_engine.store.store import Store


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store.db") as store:
        yield store


class Named(FakeBench):
    def __init__(self, name="NVIDIA H200", measures=True):
        super().__init__(measures)
        self.name = name

    def device(self):
        return DeviceInfo(self.name, H200, self.measures)


class StopsAfter(Named):
    """Asks its own search to stop while it times the first kernel."""

    def __init__(self, store, run_id):
        super().__init__()
        self.store, self.run_id = store, run_id

    def measure(self, source):
        self.store.request_stop(self.run_id)
        return super().measure(source)


def search(store, run_id, bench, proposer=None):
    process.main(
        run_id,
        store.path,
        open_bench=lambda request, settings: bench,
        open_proposers=lambda settings, facts: [proposer or FakeProposer()],
    )
    return store.run(run_id)


def notices(store, run_id):
    return [e.message for e in store.events(run_id) if e.kind == "notice"]


def stopped(store, **settings):
    run_id = start(store, **{"rounds": 2, "ideas": 2, **settings})
    bench = StopsAfter(store, run_id)
    run = search(store, run_id, bench)
    assert (run.status, run.decision) == ("stopped", "pending")
    return run_id, bench


def test_a_stopped_run_goes_on_and_does_nothing_twice(store):
    run_id, first = stopped(store)
    store.reopen(run_id)
    run = store.run(run_id)
    assert (run.status, run.decision, run.delivery, run.stop_requested) == (
        "queued", "none", None, False
    )  # fmt: skip
    second = Named()
    run = search(store, run_id, second)
    assert (run.status, run.decision) == ("finished", "pending")
    assert len(run.ideas) == 4
    assert all(k.finished for k in run.kernels)
    done = [entry for entry in first.calls + second.calls if entry[0] in ("verify", "measure")]
    assert len(done) == len(set(done)) == 12 + 8
    assert ("baseline", "") not in second.calls
    assert notices(store, run_id) == ["Taken up again."]


def test_a_finished_run_goes_on_for_more_rounds(store):
    run_id = start(store, rounds=1, ideas=1)
    before = search(store, run_id, Named())
    store.reopen(run_id, evolve(before.settings, rounds=3))
    after = search(store, run_id, Named())
    assert [record.round for record in after.ideas] == [1, 2, 3]
    assert after.kernels[: len(before.kernels)] == before.kernels


def test_what_differs_is_said(store, monkeypatch):
    run_id, _ = stopped(store)
    store.reopen(run_id)
    monkeypatch.setattr(environment, "_version", lambda package: "9.9")
    second = Named()
    run = search(store, run_id, second)
    (_, told) = notices(store, run_id)
    assert "goes on on NVIDIA H200, torch 9.9" in told
    assert f"so far it ran on NVIDIA H200, torch {torch_version()}" in told
    assert "anew" not in told
    assert ("baseline", "") not in second.calls
    assert run.environment.torch == "9.9"


def torch_version():
    from importlib.metadata import version

    return version("torch")


def test_on_another_device_what_passed_is_judged_anew(store):
    run_id = start(store, rounds=1, ideas=2)
    first = search(store, run_id, Named("cpu (SIMT)", measures=False))
    assert len(first.accepted_kernels) == 4
    store.reopen(run_id, evolve(first.settings, rounds=2))
    bench = Named()
    run = search(store, run_id, bench)
    # No estimate is left to be ranked beside a measurement.
    assert all(k.measurement and not k.estimate for k in run.accepted_kernels)
    assert run.baseline is not None
    again = [name for what, name in bench.calls if what == "verify" and "idea 1" in name]
    assert len(again) == len(set(again)) == 4  # the two rejected ones stay rejected
    assert any(
        "cpu (SIMT) for NVIDIA H200" in n and "4 kernels" in n for n in notices(store, run_id)
    )


def test_on_another_device_a_sweep_starts_over(store):
    template = "// tune: BLOCK = 64 | 128\n" + kernel_text("t").replace("256", "BLOCK")

    class Tuning(FakeProposer):
        def branches(self, task, idea, history, count):
            return [Branch(template, "t")]

    run_id = start(store, rounds=1, ideas=1)
    search(store, run_id, Named("cpu (SIMT)", measures=False), Tuning())
    store.reopen(run_id)
    (kernel,) = search(store, run_id, Named(), Tuning()).kernels
    assert len(kernel.configurations) == 2
    assert all(c.estimate is None for c in kernel.configurations)
    assert (kernel.template, kernel.measurement is None) == (template, False)


def test_other_inputs_need_a_new_search(store):
    class Other(Named):
        def capture(self):
            wider = evolve(TASK.tensors[0], shape=(128, 256))
            return evolve(TASK, tensors=(wider, TASK.tensors[1]))

    run_id, _ = stopped(store)
    store.reopen(run_id)
    run = search(store, run_id, Other())
    assert run.status == "failed"
    assert "other inputs" in run.message
    assert run.task == TASK
