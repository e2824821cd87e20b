import math

import pytest
from attrs import evolve
from writer import REQUEST, start

from search_engine.deliver.delivery import Delivery
from search_engine.errors import StoreError
from search_engine.graph import Graph, Node, Ref
from search_engine.hardware import H200
from search_engine.proposers._base import Branch, Idea
from search_engine.settings import SearchSettings
from search_engine.store import store as store_module
from search_engine.store.store import Store
from search_engine.task import Task, TensorSpec
from search_engine.verdict import (
    Accuracy,
    Baseline,
    BuildInfo,
    Estimate,
    Finding,
    Measurement,
    Sample,
    Verdict,
)

TASK = Task(
    path="/project/net.py", qualname="Net", module_name="net", fingerprint="f",
    inputs_from="comment", construction="Net(512)",
    tensors=(TensorSpec("x", "input", "float32", (2, 3), (3, 1)),),
    scalars={"alpha": 0.5, "count": 3, "flag": True},
    mode="eval", policy="match", target=H200.key, flops=6, min_bytes=48, longest_reduction=3,
    limit_seconds=1e-6, limit_reason="DRAM",
    graph=Graph(
        ("x",),
        (
            Node("y", "aten.sum.dim_IntList", (Ref("x"), (1,), True), {"dtype": "float32"},
                 "float32", (2, 1)),
            Node("z", "aten.clamp.default", (Ref("y"), None, math.inf), {}, "float32", (2, 1)),
        ),
        (("out", "z"),),
    ),
    notes=("a note",),
)  # fmt: skip
SAMPLE = Sample(1e-3, 0.9e-3, 1.1e-3, 50)
IDEA = Idea("One pass", "Reads once.", "memory access", 1.5, "one_pass")


def with_kernels(store, count=2):
    run_id, _ = start(store)
    store.claim(run_id, "me")
    store.add_ideas(run_id, 1, "playbook", [IDEA])
    record = store.run(run_id).ideas[0]
    store.add_branches(
        run_id, record.id, [Branch(f"source {i}", f"label {i}") for i in range(count)]
    )
    return run_id, [k.id for k in store.run(run_id).kernels]


def test_what_is_written_comes_back_the_same(store, path):
    run_id, (first, second) = with_kernels(store)
    accuracy = Accuracy("out", "default", 1e-7, 1e-7, 2e-7, 1e-6, 1e-5)
    verdict = Verdict(True, "cpu (SIMT)", (), (accuracy,), ("a note",), 1.5)
    rejected = Verdict(False, "cpu (SIMT)", (Finding("race", "two writers", 3, 4, "out[1]"),))
    build = BuildInfo("run", 32, 1024, 0, "log")
    measurement = Measurement("NVIDIA H200", SAMPLE, SAMPLE, {"default": SAMPLE}, ("hot",))
    estimate = Estimate("NVIDIA H200", 1e-5, "DRAM", {"DRAM": 1e-5})
    baseline = Baseline("NVIDIA H200", SAMPLE, {"default": SAMPLE}, ("warm",))
    files = {"net_cuda/Net.cu": "code"}
    delivery = Delivery("Net", "f", files, "from x import y", "@y", "t", "r", "s")
    store.set_task(run_id, TASK)
    store.set_baseline(run_id, baseline)
    store.set_verdict(first, verdict, [build])
    store.set_verdict(second, rejected, [])
    store.set_measurement(first, measurement)
    store.set_estimate(first, estimate)
    store.set_progress(run_id, 2, "timing")
    store.offer(run_id, first, delivery)
    with Store(path) as other:
        run = other.run(run_id)
    assert run.task == TASK
    assert run.request == REQUEST
    assert run.settings == SearchSettings()
    assert run.baseline == baseline
    assert [r.idea for r in run.ideas] == [IDEA]
    kernel, bad = run.kernels
    assert (kernel.verdict, kernel.builds) == (verdict, (build,))
    assert (kernel.measurement, kernel.estimate) == (measurement, estimate)
    assert (bad.verdict, bad.finished) == (rejected, True)
    assert (run.round, run.message, run.status) == (2, "timing", "running")
    assert (run.winner, run.delivery, run.decision) == (kernel, delivery, "pending")


def test_a_run_goes_through_its_states(store):
    run_id, new = start(store)
    assert new
    assert (store.run(run_id).status, store.run(run_id).alive) == ("queued", False)
    assert store.claim(run_id, "me")
    assert (store.run(run_id).status, store.run(run_id).alive) == ("running", True)
    store.finish(run_id, "finished", "Nothing faster found.")
    run = store.run(run_id)
    assert (run.status, run.alive, run.message) == ("finished", False, "Nothing faster found.")
    assert [(e.kind, e.message) for e in store.events(run_id)] == [("end", "Nothing faster found.")]
    assert not store.claim(run_id, "me")
    assert not store.beat(run_id, "me")


def test_one_active_run_per_class_and_file(store):
    first, _ = start(store)
    assert start(store) == (first, False)
    other, new = start(store, path="/project/other.py")
    assert new
    assert other != first
    store.finish(first, "finished", "done")
    second, new = start(store)
    assert new
    assert store.latest("/project/net.py", "Net").id == second
    assert store.run_ids("/project/net.py") == [second, first]
    assert len(store.run_ids()) == 3
    assert store.latest("/project/net.py", "Other") is None


def test_a_dead_run_of_a_changed_class_gives_way_to_a_new_one(store):
    old, _ = start(store, "before")
    new_id, new = start(store, "after")
    assert new
    assert store.run(old).status == "stopped"
    assert "class changed" in store.run(old).message
    assert store.claim(new_id, "me")  # held now: a change does not take it away
    assert start(store, "later") == (new_id, False)


def test_the_lease(store, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(store_module.time, "time", lambda: now[0])
    run_id, _ = start(store)
    assert store.claim(run_id, "one")
    assert store.claim(run_id, "one")  # the same owner may claim again
    assert not store.claim(run_id, "two")
    now[0] += store_module.LEASE_SECONDS - 1
    assert store.beat(run_id, "one")
    now[0] += store_module.LEASE_SECONDS - 1
    assert not store.claim(run_id, "two")
    now[0] += 2
    assert not store.run(run_id).alive
    assert store.claim(run_id, "two")
    assert not store.beat(run_id, "one")
    assert store.beat(run_id, "two")


def test_stopping(store):
    run_id, _ = start(store)
    store.request_stop(run_id)  # nobody works on it
    assert store.run(run_id).status == "stopped"
    run_id, _ = start(store)
    store.claim(run_id, "me")
    assert not store.stop_requested(run_id)
    store.request_stop(run_id)
    assert store.stop_requested(run_id)
    assert store.run(run_id).active
    assert store.stop_requested("no such run")


def test_kernels_in_order_of_speed(store):
    run_id, ids = with_kernels(store, 4)
    good = Verdict(True, "d")
    for kernel_id in ids[:3]:
        store.set_verdict(kernel_id, good, [])
    store.set_verdict(ids[3], Verdict(False, "d"), [])
    for kernel_id, seconds in zip(ids, (3e-3, 1e-3), strict=False):
        sample = evolve(SAMPLE, median=seconds)
        store.set_measurement(kernel_id, Measurement("d", sample, SAMPLE, {}))
    store.set_estimate(ids[2], None)
    run = store.run(run_id)
    assert [k.id for k in run.accepted_kernels] == [ids[1], ids[0], ids[2]]
    assert run.best.id == ids[1]
    assert all(k.finished for k in run.kernels)


def test_events_come_in_order_and_after_a_mark(store):
    run_id, _ = start(store)
    for number in range(3):
        store.add_event(run_id, "idea", str(number))
    first, *rest = store.events(run_id)
    assert store.events(run_id, first.id) == rest
    assert [e.message for e in rest] == ["1", "2"]


def test_other_connections_see_that_something_changed(store, path):
    run_id, _ = start(store)
    with Store(path) as reader:
        before = reader.change_counter()
        assert reader.change_counter() == before
        store.add_event(run_id, "idea", "x")
        assert reader.change_counter() != before


def test_a_run_that_is_not_there(store):
    with pytest.raises(StoreError, match=r"There is no run 'x'.*kernel-lsp runs"):
        store.run("x")


def test_ideas_of_a_round_may_come_in_two_writes(store):
    run_id, _ = start(store)
    store.add_ideas(run_id, 1, "a", [IDEA, IDEA])
    store.add_ideas(run_id, 1, "b", [IDEA])
    positions = [(r.proposer, r.position) for r in store.run(run_id).ideas]
    assert positions == [("a", 0), ("a", 1), ("b", 2)]


def test_a_run_that_ended_can_be_reopened_once_nothing_is_in_its_way(store):
    run_id, _ = start(store)
    with pytest.raises(StoreError, match="has not ended: it is queued"):
        store.reopen(run_id)
    store.finish(run_id, "stopped", "Stopped.")
    moved = evolve(REQUEST, path="/elsewhere/net.py")
    store.reopen(run_id, SearchSettings(rounds=9), moved)
    run = store.run(run_id)
    assert (run.status, run.settings.rounds, run.path, run.request) == (
        "queued", 9, "/elsewhere/net.py", moved
    )  # fmt: skip
    assert store.claim(run_id, "me")


def test_a_run_is_not_reopened_beside_an_active_one_or_once_accepted(store):
    first, _ = start(store)
    store.finish(first, "stopped", "Stopped.")
    second, _ = start(store)
    with pytest.raises(StoreError, match="Another search of Net is active"):
        store.reopen(first)
    assert store.run(first).status == "stopped"
    store.finish(second, "finished", "done")
    store.decide(second, "accepted")
    with pytest.raises(StoreError, match="was accepted: revert it first"):
        store.reopen(second)
    assert store.run(second).decision == "accepted"
