"""Sweeps through the study, with a bench that reads times from the values filled in."""

import re

import pytest
from fake_search import FakeBench, FakeProposer, events, kernel_text, study

from search_engine.errors import WorkerDied
from search_engine.judgement import Judgement
from search_engine.proposers._base import Branch
from search_engine.search.sweep import is_open
from search_engine.store.store import Store
from search_engine.verdict import Finding, Verdict

TEMPLATE = "// tune: BLOCK = 32 | 64 | 128 | 256 | 2048\n// tune: ROWS = 1 | 2\n" + kernel_text(
    "t"
).replace("<<<64, 256>>>", "<<<64, BLOCK>>>")


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store.db") as store:
        yield store


class Tuning(FakeProposer):
    def __init__(self, *templates, name="fake"):
        super().__init__(name)
        self.templates = templates or (TEMPLATE,)

    def branches(self, task, idea, history, count):
        return [Branch(text, "open") for text in self.templates]


class Bench(FakeBench):
    """BLOCK=64, ROWS=2 is the fastest; 256 is wrong."""

    def _log(self, what, source):
        self.calls.append((what, re.findall(r"#define \w+ (\w+)", source)))

    @staticmethod
    def _seconds(source):
        values = dict(re.findall(r"#define (\w+) (\w+)", source))
        return 1e-5 * (1 + abs(int(values["BLOCK"]) - 64) / 64) / int(values["ROWS"])

    def verify(self, source):
        if "BLOCK 256" in source:
            self._log("verify", source)
            return Judgement(Verdict(False, "fake", (Finding("race", "two writers"),)), ())
        return super().verify(source)

    def did(self, what):
        return [values for step, values in self.calls if step == what]


def tuned(store, bench=None, proposer=None, **settings):
    settings = {"rounds": 1, "ideas": 1, "configurations": 20, **settings}
    return study(store, bench or Bench(), [proposer or Tuning()], **settings)


def test_a_branch_with_tune_lines_is_one_kernel_and_its_winner_has_the_values(store):
    one = tuned(store)
    one.search()
    (kernel,) = one.run.kernels
    assert kernel.finished
    assert kernel.template == TEMPLATE
    assert kernel.source.startswith("#define BLOCK 64  // tune: BLOCK = 64\n#define ROWS 2 ")
    assert kernel.name == "open, BLOCK=64, ROWS=2"
    assert kernel.seconds == pytest.approx(5e-6)
    assert kernel.builds[0].registers == 32
    assert one.run.best == kernel
    assert any("open, BLOCK=64, ROWS=2: 5.00 µs" in e for e in events(one, "measurement"))


def test_every_configuration_is_verified_and_none_twice(store):
    one = tuned(store)
    one.search()
    verified = one.bench.did("verify")
    assert len(verified) == len({tuple(v) for v in verified}) == 8
    assert sorted(one.bench.did("compile")) == sorted(verified)
    for values in one.bench.did("glance") + one.bench.did("measure"):
        steps = [what for what, of in one.bench.calls if of == values]
        assert steps.index("verify") == 1  # behind compile alone
    assert len(one.run.kernels[0].configurations) == 8


def test_what_exceeds_the_devices_limits_is_never_compiled(store):
    one = tuned(store)
    one.search()
    assert not [values for _, values in one.bench.calls if "2048" in values]


def test_where_nothing_fits_the_verdict_says_why(store):
    class Device(Bench):
        def verify(self, source):
            finding = Finding("launch-limits", "a block of 2048 threads")
            return Judgement(Verdict(False, "fake", (finding,)), ())

    text = TEMPLATE.replace("32 | 64 | 128 | 256 | 2048", "2048 | 4096")
    one = tuned(store, Device(), Tuning(text))
    one.search()
    (kernel,) = one.run.kernels
    assert (kernel.finished, kernel.verdict.findings[0].check) == (True, "launch-limits")
    assert len(kernel.configurations) == 1


def test_a_first_timing_gives_up_what_cannot_win(store):
    one = tuned(store)
    one.search()
    measured, glanced = one.bench.did("measure"), one.bench.did("glance")
    assert ["64", "2"] in measured
    assert len(glanced) == 5  # all of the six that are verified, but the first
    given_up = [c for c in one.run.kernels[0].configurations if c.glance and not c.measurement]
    assert given_up
    assert all(c.glance.low > one.run.best.measurement.kernel.high for c in given_up)


def test_a_rejected_configuration_is_no_winner_and_has_its_findings(store):
    one = tuned(store)
    one.search()
    rejected = [c for c in one.run.kernels[0].configurations if not c.verdict.accepted]
    assert [c.values["BLOCK"] for c in rejected] == ["256", "256"]
    assert rejected[0].verdict.findings[0].check == "race"
    assert rejected[0].time is None


def test_a_worker_that_dies_while_timing_costs_one_configuration(store):
    class Dying(Bench):
        def measure(self, source):
            if "BLOCK 64" in source:
                raise WorkerDied("The worker ended on signal 11.")
            return super().measure(source)

    one = tuned(store, Dying())
    one.search()
    (kernel,) = one.run.kernels
    assert kernel.chosen.values == {"BLOCK": "32", "ROWS": "2"}
    dead = [c for c in kernel.configurations if c.values["BLOCK"] == "64"]
    assert {c.verdict.findings[0].check for c in dead} == {"fault"}


def test_the_budget_counts_configurations_and_seconds(store):
    one = tuned(store, configurations=3)
    one.search()
    assert len(one.bench.did("verify")) == 3
    assert len(one.run.kernels[0].configurations) == 3
    assert one.run.kernels[0].finished
    store.finish(one.run_id, "finished", "done")
    two = tuned(store, sweep_seconds=0.0)
    two.search()
    assert len(two.run.kernels[0].configurations) == 1


def test_where_there_are_no_times_estimates_decide(store):
    one = tuned(store, Bench(measures=False))
    one.search()
    (kernel,) = one.run.kernels
    assert kernel.measurement is None
    assert kernel.estimate.seconds == pytest.approx(5e-6)
    assert kernel.chosen.values == {"BLOCK": "64", "ROWS": "2"}
    assert not one.bench.did("glance") + one.bench.did("measure")
    assert any("estimate 5.00 µs on NVIDIA H200" in e for e in events(one, "verdict"))


def test_an_interrupted_sweep_goes_on_where_it_was(store):
    class Stopping(Bench):
        def verify(self, source):
            if len(self.did("verify")) == 3:
                raise KeyboardInterrupt
            return super().verify(source)

    one = tuned(store, Stopping())
    with pytest.raises(KeyboardInterrupt):
        one.search()
    (kernel,) = one.run.kernels
    before = {tuple(c.values.values()) for c in kernel.configurations}
    assert (len(before), kernel.finished) == (3, False)
    assert kernel.verdict.accepted  # the best so far counts if nobody takes the run up again
    assert is_open(kernel)
    again = study(store, Bench(), [Tuning()], rounds=1, ideas=1, configurations=20)
    assert again.run_id == one.run_id
    again.search()
    (kernel,) = again.run.kernels
    assert kernel.finished
    assert len(kernel.configurations) == 8
    assert not before & {tuple(v) for v in again.bench.did("verify")}
    assert kernel.chosen.values == {"BLOCK": "64", "ROWS": "2"}


def test_a_sweep_that_is_asked_to_stop_keeps_what_it_has(store):
    class Asked(Bench):
        def measure(self, source):
            store.request_stop(one.run_id)
            return super().measure(source)

    one = tuned(store, Asked())
    assert one.search() == "it was stopped"
    (kernel,) = one.run.kernels
    assert one.bench.did("measure") == [list(kernel.chosen.values.values())]
    assert (kernel.finished, one.run.best) == (False, kernel)


def test_the_same_template_is_not_swept_twice(store):
    one = tuned(store, rounds=3, proposer=Tuning(TEMPLATE, TEMPLATE))
    one.search()
    assert len(one.run.kernels) == 1


def test_our_own_templates_are_trusted_configuration_by_configuration(store):
    one = tuned(store, proposer=Tuning(name="playbook"), configurations=2)
    one.search()
    assert {tuple(v) for v in one.bench.did("verify")} <= {
        tuple(re.findall(r"#define \w+ (\w+)", source)) for source in one.bench.trusted
    }
    store.finish(one.run_id, "finished", "done")
    other = tuned(store, proposer=Tuning(name="model"))
    other.search()
    assert not other.bench.trusted


def test_a_malformed_tune_line_is_a_finding_of_its_verdict(store):
    text = TEMPLATE.replace("BLOCK = 32", "BLOCK 32")
    one = tuned(store, FakeBench(), Tuning(text))
    one.search()
    (kernel,) = one.run.kernels
    assert kernel.template is None
    assert ("verify", "t") in one.bench.calls


def test_sweeps_come_after_the_rounds_other_kernels(store):
    class Both(Tuning):
        def branches(self, task, idea, history, count):
            closed = TEMPLATE.replace("| 64 | 128 | 256 | 2048", "").replace("| 2", "")
            return [Branch(TEMPLATE, "open"), Branch(closed, "closed")]

    one = tuned(store, proposer=Both())
    one.search()
    steps = [what for what, _ in one.bench.calls]
    assert steps[:4] == ["compile", "verify", "baseline", "measure"]
    open_one, closed = one.run.kernels
    assert (open_one.template is None, closed.template is None) == (False, True)
