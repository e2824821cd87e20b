import pytest
from fake_search import TASK, FakeBench, FakeProposer, events, kernel_text, study

from search_engine.errors import KernelLspError
from search_engine.proposers._base import Branch, Idea
from search_engine.store.store import Store


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store.db") as store:
        yield store


def test_rounds_times_ideas_times_branches(store):
    one = study(store)
    assert one.search() == "2 rounds are done"
    run = one.run
    assert [r.round for r in run.ideas] == [1, 1, 2, 2]
    assert all(r.branched for r in run.ideas)
    assert len(run.kernels) == 2 * 2 * 3
    assert all(k.finished for k in run.kernels)
    assert len(run.accepted_kernels) == 8
    assert run.best.seconds == pytest.approx(5e-5)
    assert run.best.builds[0].registers == 32
    assert run.baseline.eager.median == 1e-3


def test_a_round_is_compiled_together_then_verified_then_timed(store):
    one = study(store, rounds=1)
    one.search()
    steps = [what for what, _ in one.bench.calls]
    assert steps == ["compile"] * 6 + ["verify"] * 6 + ["baseline"] + ["measure"] * 4


def test_without_times_each_kernel_is_estimated_as_soon_as_it_passed(store):
    one = study(store, FakeBench(measures=False), rounds=1, ideas=1)
    one.search()
    steps = [what for what, _ in one.bench.calls]
    assert steps == ["compile"] * 3 + ["verify", "estimate", "verify", "estimate", "verify"]
    assert one.run.best.estimate.seconds == pytest.approx(1e-4)
    assert one.run.best.measurement is None
    assert any("estimate 0.100 ms on NVIDIA H200" in e for e in events(one, "verdict"))


def test_proposers_know_what_was_tried_and_what_it_measured(store):
    proposer = FakeProposer()
    study(store, proposers=[proposer]).search()
    first, second = proposer.told
    assert (first.round, first.tried, first.seeds, first.best_seconds) == (1, (), (), None)
    assert second.round == 2
    assert second.limit_seconds == TASK.limit_seconds
    assert second.best_seconds == pytest.approx(1e-4)
    tried = second.tried[0]
    assert (tried.branches, tried.accepted, tried.best_label) == (3, 2, "branch 0")
    assert [f.check for f in tried.findings] == ["accuracy"]
    assert second.seeds[0].seconds == pytest.approx(1e-4)


def test_proposers_begin_in_turn_and_fill_up_for_each_other(store):
    one = study(store, proposers=[FakeProposer("a", rounds=1), FakeProposer("b")], rounds=3)
    one.search()
    assert [(r.round, r.proposer) for r in one.run.ideas] == [
        (1, "a"), (1, "a"), (2, "b"), (2, "b"), (3, "b"), (3, "b")
    ]  # fmt: skip


def test_ends_when_nobody_has_anything_new(store):
    one = study(store, proposers=[FakeProposer(rounds=1)], rounds=5)
    assert one.search() == "no proposer has anything new"
    assert len(one.run.ideas) == 2


def test_ends_at_the_share_of_the_limit(store):
    one = study(store, rounds=5, stop_at_limit=0.009)
    assert one.search() == "the best kernel is at 1% of the limit"
    assert one.run.round == 1


def test_ends_when_the_time_is_over(store):
    one = study(store, minutes=0.0)
    assert one.search() == "0 minutes are over"
    assert one.run.ideas == ()


def test_ends_when_asked_to(store):
    class Asking(FakeBench):
        def measure(self, source):
            store.request_stop(one.run_id)
            return super().measure(source)

    one = study(store, Asking())
    assert one.search() == "it was stopped"
    assert len([k for k in one.run.kernels if k.measurement]) == 1


def test_a_worker_that_dies_while_timing_costs_the_kernel_alone(store):
    class Proposing(FakeProposer):
        def branches(self, task, idea, history, count):
            return [Branch(kernel_text("a", 1e-5, "dies"), "a"), Branch(kernel_text("b"), "b")]

    one = study(store, proposers=[Proposing()], rounds=1, ideas=1)
    one.search()
    dead, alive = one.run.kernels
    assert dead.finished
    assert not dead.verdict.accepted
    assert dead.verdict.findings[0].check == "fault"
    assert "signal 11" in dead.verdict.reason
    assert alive.measurement is not None


def test_the_same_kernel_is_not_judged_twice(store):
    class Repeating(FakeProposer):
        def branches(self, task, idea, history, count):
            return [Branch(kernel_text("same"), "a"), Branch(kernel_text("same"), "b")]

    one = study(store, proposers=[Repeating()])
    one.search()
    assert len(one.run.kernels) == 1


def test_a_proposer_that_fails_is_told_and_passed_over(store):
    class Failing(FakeProposer):
        def ideas(self, task, history, count):
            raise KernelLspError("The provider does not answer: try later.")

    one = study(store, proposers=[Failing("bad"), FakeProposer("good")], rounds=1)
    one.search()
    assert {r.proposer for r in one.run.ideas} == {"good"}
    assert any("bad has no ideas" in e and "try later" in e for e in events(one, "notice"))


class Faulty(FakeProposer):
    """Runs into a fault of its own where it is asked for ``what``, of its first idea alone."""

    def __init__(self, what):
        super().__init__("faulty", rounds=1)
        self.what = what

    def ideas(self, task, history, count):
        if self.what == "ideas":
            raise KeyError("acc7")
        return super().ideas(task, history, count)

    def branches(self, task, idea, history, count):
        if idea.title == "idea 1.0":
            raise KeyError("acc7")
        return super().branches(task, idea, history, count)


def test_an_idea_that_cannot_be_written_is_named_and_the_others_go_on(store, caplog):
    one = study(store, proposers=[Faulty("branches")], rounds=1)
    assert one.search() == "its one round is done"
    assert [(r.branched, len(one.run.kernels_of(r))) for r in one.run.ideas] == [
        (True, 0),
        (True, 3),
    ]
    assert events(one, "notice") == [
        "idea 1.0: no kernels (a fault in faulty, KeyError: the search's log has the details)"
    ]
    assert "KeyError: 'acc7'" in caplog.text  # with its traceback
    assert "kernels of “idea 1.0”" in caplog.text


def test_a_proposer_with_a_fault_leaves_the_round_to_the_others(store, caplog):
    one = study(store, proposers=[Faulty("ideas"), FakeProposer("good")], rounds=1)
    one.search()
    assert {r.proposer for r in one.run.ideas} == {"good"}
    (notice,) = events(one, "notice")
    assert notice.startswith("faulty has no ideas this round: a fault in faulty, KeyError")
    assert "KeyError: 'acc7'" in caplog.text


def test_a_tune_line_without_a_choice_is_filled_in(store):
    text = "// tune: BLOCK = 64\n" + kernel_text("t").replace("256", "BLOCK")

    class Tuning(FakeProposer):
        def branches(self, task, idea, history, count):
            return [Branch(text, "t")]

    one = study(store, proposers=[Tuning()], rounds=1, ideas=1)
    one.search()
    kernel = one.run.kernels[0]
    assert kernel.source.startswith("#define BLOCK 64  // tune: BLOCK = 64\n")
    assert (kernel.template, kernel.configurations) == (None, ())


def test_a_kernel_that_was_verified_but_not_estimated_is_taken_up_again(store):
    one = study(store, FakeBench(measures=False), rounds=1, ideas=1)
    store.add_ideas(one.run_id, 1, "fake", [Idea("i", "r", "memory access", None)])
    record = one.run.ideas[0]
    store.add_branches(one.run_id, record.id, [Branch(kernel_text("k"))])
    kernel = one.run.kernels[0]
    store.set_verdict(kernel.id, one.bench.verify(kernel.source).verdict, ())
    assert not one.run.kernels[0].finished
    assert one.search() == "its one round is done"
    assert one.run.kernels[0].estimate is not None
    assert [what for what, _ in one.bench.calls] == ["verify", "estimate"]
