import pytest
from fake_search import TASK, FakeBench, FakeProposer, kernel_text, start

from search_engine.proposers._base import Branch
from search_engine.search.loop import Study
from search_engine.search.offer import conclude
from search_engine.store.store import Store


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store.db") as store:
        yield store


class Proposing(FakeProposer):
    """One idea with these kernels."""

    def __init__(self, *sources, reason=None):
        super().__init__(rounds=1 if sources else 0)
        self.sources = sources
        self.reason = reason

    def branches(self, task, idea, history, count):
        return [Branch(source, f"branch {i}") for i, source in enumerate(self.sources)]

    def unsupported(self, task):
        return self.reason


def end_of(store, *sources, measures=True, reason=None):
    """The last sentence and the run after a search with these kernels."""
    run_id = start(store, rounds=1, ideas=1, branches=len(sources) or 1)
    store.claim(run_id, "test")
    store.set_task(run_id, TASK)
    proposers = [Proposing(*sources, reason=reason)]
    study = Study(store, run_id, TASK, FakeBench(measures), proposers)
    message = conclude(study, study.search())
    return message, store.run(run_id)


def test_the_fastest_is_offered_with_both_speedups_and_the_limit(store):
    message, run = end_of(store, kernel_text("a", 1e-4), kernel_text("b", 5e-5))
    assert message == "50.0 µs, ×4.00 over torch.compile, ×20.0 over eager; limit 1.00 µs"
    assert run.winner.label == "branch 1"
    assert run.decision == "pending"
    assert run.delivery.files == {"net_cuda/Net.cu": kernel_text("b", 5e-5)}


def test_nothing_slower_than_torch_compile_is_offered(store):
    message, run = end_of(store, kernel_text("a", 5e-4), kernel_text("b", 6e-4))
    assert message == "Nothing faster found: best kernel 0.500 ms, torch.compile 0.200 ms."
    assert (run.winner, run.delivery, run.decision) == (None, None, "none")


def test_a_lead_within_the_spread_is_no_lead(store):
    message, run = end_of(store, kernel_text("a", 1.99e-4))
    assert message == (
        "Nothing found that is faster by more than the spread of the times: best kernel 0.199 ms "
        "±1.0%, torch.compile 0.200 ms ±1.0%."
    )
    assert run.delivery is None


def test_a_kernel_that_differs_as_delivered_gives_way_to_the_next(store):
    message, run = end_of(store, kernel_text("a", 1e-5, "undeliverable"), kernel_text("b", 2e-5))
    assert message.startswith("20.0 µs")
    assert run.winner.label == "branch 1"
    notices = [e.message for e in store.events(run.id) if e.kind == "notice"]
    assert any("as delivered: delivery: it differs" in n for n in notices)


def notices(store, run):
    return [event.message for event in store.events(run.id) if event.kind == "notice"]


def test_a_kernel_that_is_slow_as_delivered_is_not_offered(store):
    message, run = end_of(store, kernel_text("a", 1e-5, "slow as delivered"))
    assert message == (
        "Nothing is offered, the fastest kernel as delivered: it is not faster (1.00 ms; eager "
        "1.00 ms, torch.compile 0.200 ms)."
    )
    assert run.delivery is None
    (notice,) = notices(store, run)
    assert notice.endswith("it is not faster (1.00 ms; eager 1.00 ms, torch.compile 0.200 ms)")


def test_a_launch_that_costs_more_than_eager_is_not_offered(store):
    message, run = end_of(store, kernel_text("a", 1e-5, "launch=1.2e-3"))
    assert message.startswith("Nothing is offered")
    (notice,) = notices(store, run)
    assert "slower than eager (1.21 ms; eager 1.02 ms, torch.compile 0.220 ms)" in notice
    assert "in GPU time it is faster (10.0 µs; eager 1.00 ms, torch.compile 0.200 ms)" in notice


def test_why_the_fastest_is_not_offered_is_said_where_the_next_is_slower_anyway(store):
    message, run = end_of(store, kernel_text("a", 1e-5, "launch=1.2e-3"), kernel_text("b", 5e-4))
    assert message == (
        "Nothing is offered, the fastest kernel as delivered: called alone from Python, launch "
        "included, it is slower than eager (1.21 ms; eager 1.02 ms, torch.compile 0.220 ms); in "
        "GPU time it is faster (10.0 µs; eager 1.00 ms, torch.compile 0.200 ms)."
    )
    assert run.delivery is None


def test_as_slow_as_eager_within_the_spread_is_not_slower(store):
    _, run = end_of(store, kernel_text("a", 1e-5, "launch=1.02e-3"))
    assert run.delivery is not None


def test_a_launch_that_costs_more_than_torch_compile_is_said(store):
    message, run = end_of(store, kernel_text("a", 1e-5, "launch=4e-4"))
    assert message == (
        "10.0 µs, ×20.0 over torch.compile, ×100 over eager; limit 1.00 µs; called alone from "
        "Python 0.410 ms; eager 1.02 ms, torch.compile 0.220 ms"
    )
    assert run.delivery is not None
    (notice,) = notices(store, run)
    assert "torch.compile's module is faster (0.410 ms; eager 1.02 ms" in notice


@pytest.mark.parametrize(
    ("seconds", "flags", "why"),
    [
        (
            5e-5,
            "drifting",
            "it takes 75.0 µs of GPU time, 50.0 µs when measured: the same launches, on memory "
            "that torch allocates at each call; eager took ×1.00 of its time before",
        ),
        (5e-5, "drifting with eager", "eager took ×1.50 of its time before, too"),
        (1e-5, "drifting", ""),  # 5 µs: nothing to explain
    ],
)
def test_a_difference_between_bare_and_delivered_is_explained(store, seconds, flags, why):
    _, run = end_of(store, kernel_text("a", seconds, flags))
    found = notices(store, run)
    assert len(found) == bool(why)
    assert all(notice.endswith(why) for notice in found)
    assert run.delivery is not None


def test_without_a_gpu_there_is_an_estimate_and_no_claim(store):
    message, run = end_of(store, kernel_text("a", 1e-5), measures=False)
    assert message == ("Verified, not measured: estimate 10.0 µs on NVIDIA H200, limit 1.00 µs.")
    assert run.decision == "pending"


def test_without_an_estimate(store):
    message, run = end_of(store, kernel_text("a", 1e-5, "unmodelled"), measures=False)
    assert message == "Verified, not measured; limit 1.00 µs."
    assert run.winner is not None


def test_nothing_verified_says_what_was_wrong(store):
    message, run = end_of(store, kernel_text("a", 1e-5, "wrong"), kernel_text("b", 1e-5, "wrong"))
    assert message == (
        "Nothing is offered: none of 2 kernels passed verification (the first: accuracy: the "
        "output is wrong (out[0, 0]))."
    )
    assert run.decision == "none"


def test_nothing_proposed_says_why(store):
    message, _ = end_of(store, reason="aten.fft_fft is not covered by the playbook.")
    assert message == "Nothing is offered: aten.fft_fft is not covered by the playbook."
    message, _ = end_of(store)
    assert "no proposer has anything new, and no kernel was verified" in message


def test_a_proposer_that_cannot_even_say_why_still_ends_in_a_sentence(store, caplog):
    class Faulty(Proposing):
        def unsupported(self, task):
            raise KeyError("acc7")

    run_id = start(store, rounds=1)
    store.claim(run_id, "test")
    store.set_task(run_id, TASK)
    study = Study(store, run_id, TASK, FakeBench(), [Faulty()])
    message = conclude(study, study.search())
    assert message.startswith("Nothing is offered: fake cannot say what it has for the task (a fa")
    assert "KeyError: 'acc7'" in caplog.text
