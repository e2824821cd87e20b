from fake_search import start

from search_engine.proposers._base import Branch, Idea
from search_engine.search import seeds
from search_engine.store.store import Store
from search_engine.verdict import Estimate, Verdict


def bank(tmp_path, entries):
    """A run with one verified kernel per (category, seconds); None: not modelled."""
    with Store(tmp_path / "store.db") as store:
        run_id = start(store)
        for number, (category, seconds) in enumerate(entries, 1):
            store.add_ideas(run_id, number, "p", [Idea(f"i{number}", "", category, None)])
            record = store.run(run_id).ideas[-1]
            store.add_branches(run_id, record.id, [Branch(f"source {number}")])
            kernel = store.run(run_id).kernels[-1]
            store.set_verdict(kernel.id, Verdict(True, "d"), ())
            estimate = None if seconds is None else Estimate("H200", seconds, "DRAM", {})
            store.set_estimate(kernel.id, estimate)
        return store.run(run_id)


M, P, C = "memory access", "parallelism and occupancy", "control flow and loops"


def test_fastest_and_different_before_merely_fast(tmp_path):
    run = bank(tmp_path, [(M, 1.0), (M, 2.0), (M, 3.0), (P, 9.0), (C, 5.0)])
    assert [s.seconds for s in seeds.pick(run, 3)] == [1.0, 5.0, 9.0]
    assert [s.seconds for s in seeds.pick(run, 4)] == [1.0, 2.0, 5.0, 9.0]


def test_one_seed_is_the_fastest(tmp_path):
    run = bank(tmp_path, [(P, 9.0), (M, 1.0)])
    assert [(s.seconds, s.idea.category) for s in seeds.pick(run, 1)] == [(1.0, M)]


def test_kernels_without_a_time_seed_nothing(tmp_path):
    run = bank(tmp_path, [(M, None), (P, 2.0)])
    assert [s.seconds for s in seeds.pick(run, 3)] == [2.0]
