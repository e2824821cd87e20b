"""The winning idea at the task's further shapes."""

import attrs
import pytest
from fake_search import TASK, FakeBench, FakeProposer, events, kernel_text, start

from search_engine.judgement import DeliveryCheck, Judgement
from search_engine.proposers._base import Branch
from search_engine.search.loop import Study
from search_engine.search.offer import conclude
from search_engine.store.store import Store
from search_engine.verdict import Finding, Verdict

SHAPES = attrs.evolve(TASK, further=tuple(attrs.evolve(TASK, scalars={"n": n}) for n in (1, 2)))


class Proposer(FakeProposer):
    """Kernels by label for each task; a label's text names the shape that it was made for."""

    def __init__(self, name="fake", labels=("a", "b")):
        super().__init__(name, rounds=1)
        self.labels = labels

    def branches(self, task, idea, history, count):
        number = task.scalars.get("n", 0)
        return [
            Branch(kernel_text(f"{label}{number}", 1e-5 * (1 + i)), label)
            for i, label in enumerate(self.labels)
        ][:count]


class Bench(FakeBench):
    """``fits`` maps (shape, name of the kernel) to False, or to a rejection as delivered."""

    def __init__(self, misfits=(), undeliverable=(), slow=(), measures=True):
        super().__init__(measures)
        self.misfits, self.undeliverable, self.slow = misfits, undeliverable, slow
        self.rendered = []

    def capture(self):
        return SHAPES

    @staticmethod
    def name(source):
        return source.split()[1]

    def verify(self, source, shape=0):
        if (shape, self.name(source)) in self.misfits:
            return Judgement(Verdict(False, "fake", (Finding("race", "two writers"),)), ())
        return super().verify(source)

    def measure(self, source, shape=0):
        found = super().measure(source)
        return attrs.evolve(found, kernel=found.eager) if shape in self.slow else found

    def estimate(self, source, shape=0):
        return super().estimate(source)

    def render(self, kernel, idea, further=()):
        self.rendered.append([(f.shape, self.name(f.source)) for f in further])
        return super().render(kernel, idea)

    def check_delivery(self, delivery, kernel, shape=0):
        if shape in self.undeliverable:
            return DeliveryCheck(Verdict(False, "fake", (Finding("delivery", "it differs"),)))
        return super().check_delivery(delivery, kernel)


@pytest.fixture
def concluded(tmp_path):
    def run(bench, proposer=None):
        store = Store(tmp_path / "store.db")
        run_id = start(store, rounds=1, ideas=1, branches=2)
        bench.store, bench.run_id = store, run_id
        store.claim(run_id, "test")
        store.set_task(run_id, SHAPES)
        found = Study(store, run_id, SHAPES, bench, [proposer or Proposer()])
        conclude(found, found.search())
        assert store.run(run_id).delivery is not None
        return found

    return run


def left_out(study):
    return [message for message in events(study, "notice") if "original forward" in message]


def test_each_shape_gets_the_same_variant_as_written_for_it(concluded):
    bench = Bench()
    study = concluded(bench)
    assert bench.rendered == [[(1, "a1"), (2, "a2")]]
    assert left_out(study) == []


def test_the_winners_own_text_and_other_variants_are_tried_too(concluded):
    bench = Bench(misfits={(1, "a1"), (2, "a2"), (2, "a0")})
    study = concluded(bench)
    assert bench.rendered == [[(1, "a0"), (2, "b2")]]
    assert left_out(study) == []


def test_a_shape_without_a_kernel_keeps_the_original_and_says_so(concluded):
    bench = Bench(misfits={(1, name) for name in ("a0", "a1", "b1")}, slow=(2,))
    study = concluded(bench)
    assert bench.rendered == [[]]
    assert left_out(study) == [
        "At x float32[64, 256], n 1 the original forward runs: race: two writers",
        "At x float32[64, 256], n 2 the original forward runs: the kernel is not faster there",
    ]


def test_a_search_that_was_stopped_checks_no_further_shapes(concluded):
    class Asking(Bench):
        def measure(self, source, shape=0):
            self.store.request_stop(self.run_id)
            return super().measure(source, shape)

    bench = Asking()
    study = concluded(bench)
    assert bench.rendered == [[]]
    assert len(left_out(study)) == 2
    assert all("was stopped before" in message for message in left_out(study))


def test_what_fails_as_delivered_is_left_out(concluded):
    bench = Bench(undeliverable=(2,))
    study = concluded(bench)
    assert bench.rendered == [[(1, "a1"), (2, "a2")], [(1, "a1")]]
    (notice,) = left_out(study)
    assert "n 2 the original forward runs: as delivered: delivery: it differs" in notice


@pytest.mark.parametrize(("name", "trusted"), [("playbook", True), ("openai", False)])
def test_only_our_own_templates_are_trusted(concluded, name, trusted):
    bench = Bench(measures=False)
    concluded(bench, Proposer(name))
    assert any(bench.name(source) == "a1" for source in bench.trusted) is trusted
