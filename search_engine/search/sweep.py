"""The sweep over a kernel's tune lines: configurations tried within a budget, the best kept.

Each configuration is verified before it is timed, and written down as it is done, so that a
sweep that was interrupted goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from attrs import define, evolve, field

from search_engine.contract.errors import ContractError
from search_engine.contract.kernel import Plan
from search_engine.contract.parse import parse
from search_engine.contract.resolve import resolve
from search_engine.contract.tune import (
    Values,
    configurations,
    filled,
    open_tunes,
    values_text,
)
from search_engine.errors import WorkerDied
from search_engine.judgement import DeviceInfo, lost
from search_engine.measure.errors import MeasurementRejected
from search_engine.search.bench import Bench
from search_engine.search.forecast import forecast
from search_engine.settings import SearchSettings
from search_engine.store.records import Configuration, KernelRecord
from search_engine.task import Task
from search_engine.verdict import BuildInfo, Finding, Sample, Verdict

MOST_CONSIDERED = 2048  # configurations whose limits and order are worked out at all
TOGETHER = 4  # configurations compiled in parallel, ahead of their verification


def is_open(kernel: KernelRecord) -> bool:
    """Whether the kernel has tune lines whose values a sweep chooses."""
    if kernel.template is not None:
        return True
    try:
        return bool(open_tunes(parse(kernel.source)))
    except ContractError:
        return False  # its verdict will say what is wrong with it


@define
class Sweep:
    """The sweep of one kernel of a run.

    ``keep`` writes a tried configuration down, with its source where it is the best so far.
    ``over`` says whether to leave the rest for another time.
    """

    kernel: KernelRecord
    task: Task
    settings: SearchSettings
    bench: Bench
    trusted: bool  # the kernel is from our own templates
    keep: Callable[[Configuration, str | None], None]
    over: Callable[[], bool]
    at_work: Callable[[int, int, str], None]
    _tried: list[Configuration] = field(factory=list)
    _template: str = ""
    _plans: dict[str, Plan] = field(factory=dict)  # by the values' text
    _device: DeviceInfo = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._tried = list(self.kernel.configurations)
        self._template = self.kernel.template or self.kernel.source
        self._device = self.bench.device()

    def run(self) -> bool:
        """Try configurations; False where ``over`` ended it before the budget did."""
        from search_engine.search.sampler import Sampler  # Optuna's import takes a while

        tunes = open_tunes(parse(self._template))
        space = self._fitting(configurations(tunes, MOST_CONSIDERED))
        count = min(self.settings.configurations, len(space))
        sampler = Sampler(tunes, space, count, self._rank)
        for done in self._tried:
            sampler.remember(done.values, done.time, done.glance)
        prepared: set[str] = set()
        while len(self._tried) < count and not self._spent():
            if self.over():
                return False
            ahead = [filled(self._template, v) for v in sampler.ahead(count - len(self._tried))]
            values = sampler.next()
            if values is None:
                break
            self._prepare([filled(self._template, values), *ahead], prepared)
            self.at_work(len(self._tried) + 1, count, values_text(values))
            done = self._try(values, sampler.hopeless)
            sampler.tell(done.time, done.glance)
            best = filled(self._template, values) if self._leads(done) else None
            self.keep(done, best)
            self._tried.append(done)
        return True

    # --- what to try ------------------------------------------------------------------

    def _fitting(self, considered: Sequence[Values]) -> list[Values]:
        """Those whose launches the device can do; where there are none the first, for its verdict.

        What does not fit is never compiled.
        """
        for values in considered:
            try:
                kernel = parse(filled(self._template, values))
                plan = resolve(kernel, self.task, self._device.facts)
            except ContractError:
                continue
            if forecast(plan, self.task, self._device.facts) is not None:
                self._plans[values_text(values)] = plan
        return [v for v in considered if values_text(v) in self._plans] or list(considered[:1])

    def _rank(self, values: Values) -> float:
        plan = self._plans.get(values_text(values))
        if plan is None:
            return float("inf")
        seconds = forecast(plan, self.task, self._device.facts, self._like(values))
        return float("inf") if seconds is None else seconds

    def _like(self, values: Values) -> tuple[BuildInfo, ...]:
        """Registers and shared memory of the configuration compiled that differs least."""
        built = [done for done in self._tried if done.builds]
        near = max(
            built, key=lambda c: sum(c.values[k] == v for k, v in values.items()), default=None
        )
        return () if near is None else near.builds

    def _spent(self) -> bool:
        return sum(done.seconds for done in self._tried) > self.settings.sweep_seconds

    # --- one configuration ------------------------------------------------------------

    def _prepare(self, sources: list[str], prepared: set[str]) -> None:
        """Compile the next ones together, unless the one needed now is compiled already."""
        if sources[0] in prepared:
            return
        wanted = [s for s in dict.fromkeys(sources) if s not in prepared][:TOGETHER]
        if self.trusted:
            self.bench.trust(wanted)
        self.bench.prepare(wanted)
        prepared.update(wanted)

    def _try(self, values: Values, hopeless: Callable[[Sample], bool]) -> Configuration:
        started = time.monotonic()
        source = filled(self._template, values)
        judgement = self.bench.verify(source)
        verdict, glance, measurement, estimate = judgement.verdict, None, None, None
        try:
            if verdict.accepted and self._device.measures:
                if any(done.time is not None for done in self._tried):
                    glance = self.bench.glance(source)
                if glance is None or not hopeless(glance):
                    measurement = self.bench.measure(source)
            elif verdict.accepted:
                estimate = self.bench.estimate(source)
        except MeasurementRejected as error:
            verdict = self._rejected(verdict, error.findings)
        except WorkerDied as error:
            finding = lost(f"while it was timed: {error}", timed_out=error.timed_out)
            verdict = self._rejected(verdict, (finding,))
        return Configuration(
            values=dict(values),
            verdict=verdict,
            builds=judgement.builds,
            glance=glance,
            measurement=measurement,
            estimate=estimate,
            seconds=time.monotonic() - started,
        )

    @staticmethod
    def _rejected(verdict: Verdict, findings: tuple[Finding, ...]) -> Verdict:
        return evolve(verdict, accepted=False, findings=findings)

    def _leads(self, done: Configuration) -> bool:
        """Whether it is the best so far: the fastest, else one that passed, else the first."""
        others = self._tried
        if not others:
            return True
        if not done.verdict.accepted:
            return False
        times = [c.time.median for c in others if c.verdict.accepted and c.time is not None]
        if done.time is not None:
            return not times or done.time.median < min(times)
        return not any(c.verdict.accepted for c in others)
