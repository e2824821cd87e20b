"""The study loop: rounds of ideas, branched, judged, timed.

Everything is written to the store as it happens and read back from it, so that the loop
can be entered anew after any crash: ideas that are branched are not branched again, and
kernels that are finished are not judged again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from attrs import define, evolve, field

from search_engine.contract.errors import ContractError
from search_engine.contract.parse import parse
from search_engine.contract.tune import fill, open_tunes
from search_engine.errors import WorkerDied
from search_engine.judgement import lost
from search_engine.measure.errors import MeasurementRejected
from search_engine.proposers._base import Branch, History, Idea, Proposer
from search_engine.search.bench import Bench
from search_engine.search.history import history
from search_engine.search.proposer_faults import reason_of
from search_engine.search.sweep import Sweep, is_open
from search_engine.store.records import IdeaRecord, KernelRecord, Run
from search_engine.store.store import Store
from search_engine.task import Task
from search_engine.words import outcome_text, time_text

OWN = frozenset({"playbook"})  # proposers whose kernels come from our own templates


@define
class Study:
    """One run under way."""

    store: Store
    run_id: str
    task: Task
    bench: Bench
    proposers: Sequence[Proposer]
    _started: float = field(factory=time.monotonic)

    def search(self) -> str:
        """Rounds until the run is at its end; returns why it ended, as a clause."""
        while (end := self._end()) is None:
            number = self._open_round()
            if not self._propose(number):
                return "no proposer has anything new"
            self._branch(number)
            self._judge(number)
            self._time(number)
            self._tune(number)
        return end

    # --- where the run is -------------------------------------------------------------

    @property
    def run(self) -> Run:
        """The run as it stands in the store."""
        return self.store.run(self.run_id)

    def _end(self) -> str | None:
        run = self.run
        settings, best = run.settings, run.best
        if self.store.stop_requested(self.run_id):
            return "it was stopped"
        if self._open(run) is None and self._last_round(run) >= settings.rounds:
            one = settings.rounds == 1
            return "its one round is done" if one else f"{settings.rounds} rounds are done"
        if time.monotonic() - self._started > settings.minutes * 60:
            return f"{settings.minutes:g} minutes are over"
        if best is not None and best.seconds is not None:
            share = self.task.limit_seconds / best.seconds
            if self._open(run) is None and share >= settings.stop_at_limit:
                return f"the best kernel is at {share:.0%} of the limit"
        return None

    @staticmethod
    def _last_round(run: Run) -> int:
        return max((record.round for record in run.ideas), default=0)

    @staticmethod
    def _open(run: Run) -> int | None:
        """The round that was begun and is not finished, if there is one."""
        for record in run.ideas:
            if not record.branched or any(not k.finished for k in run.kernels_of(record)):
                return record.round
        return None

    def _open_round(self) -> int:
        run = self.run
        return self._open(run) or self._last_round(run) + 1

    def _out_of_time(self) -> bool:
        over = time.monotonic() - self._started > self.run.settings.minutes * 60
        return over or self.store.stop_requested(self.run_id)

    # --- the steps of a round ---------------------------------------------------------

    def _propose(self, number: int) -> bool:
        """A round's ideas; False where there are none. Each round another proposer begins."""
        run = self.run
        if any(record.round == number for record in run.ideas):
            return True
        self.store.set_progress(self.run_id, number, "looking for ideas")
        told = history(run, number)
        first = (number - 1) % len(self.proposers)
        count = 0
        for proposer in [*self.proposers[first:], *self.proposers[:first]]:
            wanted = run.settings.ideas - count
            ideas = self._ideas(proposer, told, wanted) if wanted else []
            if ideas:
                self.store.add_ideas(self.run_id, number, proposer.name, ideas)
            for idea in ideas:
                self._event("idea", f"Round {number} · {idea.title} ({idea.category})")
            count += len(ideas)
        return count > 0

    def _ideas(self, proposer: Proposer, told: History, wanted: int) -> Sequence[Idea]:
        try:
            return list(proposer.ideas(self.task, told, wanted))[:wanted]
        except Exception as error:  # noqa: BLE001 (the other proposers go on)
            reason = reason_of(error, proposer, f"ideas of round {told.round}")
            self._event("notice", f"{proposer.name} has no ideas this round: {reason}")
            return []

    def _branch(self, number: int) -> None:
        """The kernels of each idea that has none yet."""
        for record in self.run.ideas:
            if record.round != number or record.branched or self._out_of_time():
                continue
            run = self.run
            self.store.set_progress(self.run_id, number, f"writing kernels: {record.idea.title}")
            proposer = next((p for p in self.proposers if p.name == record.proposer), None)
            branches: Sequence[Branch] = []
            failed = False
            if proposer is not None:
                told, count = history(run, number), run.settings.branches
                try:
                    branches = list(proposer.branches(self.task, record.idea, told, count))[:count]
                except Exception as error:  # noqa: BLE001 (the other ideas go on)
                    reason = reason_of(error, proposer, f"kernels of “{record.idea.title}”")
                    self._event("notice", f"{record.idea.title}: no kernels ({reason})")
                    failed = True
            new = _new(run, branches)
            self.store.add_branches(self.run_id, record.id, new)
            if not (new or failed):
                self._event("notice", f"{record.idea.title}: no kernel that was not tried yet")

    def _judge(self, number: int) -> None:
        """Compile the round's kernels together, then verify one after the other.

        Those with open tune lines wait for their sweep.
        """
        waiting = [k for k in self._unfinished() if k.verdict is None and not is_open(k)]
        if not waiting:
            return
        self.store.set_progress(self.run_id, number, f"building {len(waiting)} kernels")
        self.bench.trust(self._own(waiting))
        self.bench.prepare([kernel.source for kernel in waiting])
        for position, kernel in enumerate(waiting, 1):
            if self._out_of_time():
                return
            self._at_work(number, "checking", kernel, position, len(waiting))
            judgement = self.bench.verify(kernel.source)
            self.store.set_verdict(kernel.id, judgement.verdict, judgement.builds)
            if judgement.verdict.accepted and not self.bench.device().measures:
                self._estimate(kernel)
            self._tell(kernel.id)

    def _time(self, number: int) -> None:
        """Times of what passed; the baselines once before, on a device that measures."""
        unfinished = self._unfinished()
        waiting = [k for k in unfinished if k.verdict is not None and not is_open(k)]
        measures = self.bench.device().measures
        if unfinished and measures and self.run.baseline is None and not self._out_of_time():
            self._baseline(number)
        for position, kernel in enumerate(waiting, 1):
            if self._out_of_time():
                return
            self._at_work(number, "timing", kernel, position, len(waiting))
            if measures:
                self._measure(kernel)
            else:
                self._estimate(kernel)
            self._tell(kernel.id)

    def _tune(self, number: int) -> None:
        """The sweeps of the kernels that leave their numbers open, each of them one kernel."""
        for kernel in self._unfinished():
            if not is_open(kernel):
                continue
            title = self._idea(kernel).idea.title

            def at_work(position: int, count: int, values: str, title: str = title) -> None:
                message = f"tuning {position} of {count}, “{title}”: {values}"
                self.store.set_progress(self.run_id, number, message)

            sweep = Sweep(
                kernel=kernel,
                task=self.task,
                settings=self.run.settings,
                bench=self.bench,
                trusted=self._idea(kernel).proposer in OWN,
                keep=partial(self.store.add_configuration, kernel.id),
                over=self._out_of_time,
                at_work=at_work,
            )
            if not sweep.run():
                return
            self.store.end_sweep(kernel.id)
            self._tell(kernel.id)

    def _measure(self, kernel: KernelRecord) -> None:
        assert kernel.verdict is not None
        try:
            self.store.set_measurement(kernel.id, self.bench.measure(kernel.source))
            return
        except MeasurementRejected as error:
            findings = error.findings
        except WorkerDied as error:
            findings = (lost(f"while it was timed: {error}", timed_out=error.timed_out),)
        verdict = evolve(kernel.verdict, accepted=False, findings=findings)
        self.store.set_verdict(kernel.id, verdict, kernel.builds)

    def _estimate(self, kernel: KernelRecord) -> None:
        self.store.set_estimate(kernel.id, self.bench.estimate(kernel.source))

    def _baseline(self, number: int) -> None:
        self.store.set_progress(self.run_id, number, "timing eager and torch.compile")
        try:
            baseline = self.bench.baseline()
        except WorkerDied as error:
            self._event("notice", f"Eager and torch.compile could not be timed alone: {error}")
            return
        self.store.set_baseline(self.run_id, baseline)
        times = {"eager": baseline.eager, **baseline.compiled}
        listed = ", ".join(f"{name} {time_text(s.median)}" for name, s in times.items())
        self._event("measurement", f"Baselines: {listed}")

    # --- writing down -----------------------------------------------------------------

    def _own(self, kernels: Sequence[KernelRecord]) -> list[str]:
        """Those that came from our own templates."""
        own = {record.id for record in self.run.ideas if record.proposer in OWN}
        return [kernel.source for kernel in kernels if kernel.idea_id in own]

    def _idea(self, kernel: KernelRecord) -> IdeaRecord:
        return next(record for record in self.run.ideas if record.id == kernel.idea_id)

    def _unfinished(self) -> list[KernelRecord]:
        return [kernel for kernel in self.run.kernels if not kernel.finished]

    def _at_work(
        self, number: int, doing: str, kernel: KernelRecord, position: int, count: int
    ) -> None:
        title = self._idea(kernel).idea.title
        message = f"{doing} {position} of {count}, “{title}”: {kernel.label}"
        self.store.set_progress(self.run_id, number, message.removesuffix(": "))

    def _tell(self, kernel_id: int) -> None:
        kernel = next(k for k in self.run.kernels if k.id == kernel_id)
        name = " · ".join(filter(None, [self._idea(kernel).idea.title, kernel.name]))
        kind = "measurement" if kernel.measurement is not None else "verdict"
        self._event(kind, f"{name}: {outcome_text(kernel)}")

    def _event(self, kind: str, message: str) -> None:
        self.store.add_event(self.run_id, kind, message)


def _new(run: Run, branches: Sequence[Branch]) -> list[Branch]:
    """Branches that the run has not tried, tune lines without a choice filled in."""
    known = {kernel.template or kernel.source for kernel in run.kernels}
    new = []
    for branch in branches:
        source = _closed(branch.source)
        if source not in known:
            known.add(source)
            new.append(Branch(source=source, label=branch.label))
    return new


def _closed(source: str) -> str:
    try:
        kernel = parse(source)
    except ContractError:
        return source  # its verdict will say what is wrong with it
    return source if open_tunes(kernel) else fill(kernel)
