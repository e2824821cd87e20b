"""The task's further shapes: the winning idea, once more for each of them.

A search runs on the first shapes alone. Kernels have sizes built in, so each further set of
shapes gets the same idea's kernel as written for it; a kernel that fits more than one set
serves them all.
"""

from __future__ import annotations

from collections.abc import Iterator

from search_engine.contract.errors import ContractError
from search_engine.contract.tune import filled
from search_engine.errors import WorkerDied
from search_engine.judgement import ShapeKernel
from search_engine.measure.errors import MeasurementRejected
from search_engine.proposers._base import History, Idea, Proposer
from search_engine.search.loop import Study
from search_engine.search.proposer_faults import reason_of
from search_engine.store.records import KernelRecord
from search_engine.task import Task
from search_engine.verdict import Measurement

# Kernels tried for each set of shapes: the same variant, the winner's own text, and others.
TRIES = 4


def further_kernels(study: Study, kernel: KernelRecord, idea: Idea) -> list[ShapeKernel]:
    """A verified kernel for each further set of shapes that has one.

    Where there is none the original forward runs; a notice says so, with the reason.
    """
    found = []
    for shape, task in enumerate(study.task.further, 1):
        if study.store.stop_requested(study.run_id):
            # Who stops a search waits for its end, and these checks may take minutes.
            leave_out(study, shape, "the search was stopped before a kernel was verified there")
            continue
        study.store.set_progress(
            study.run_id, study.run.round, f"verifying “{idea.title}” at {task.shape_text}"
        )
        reason = "no kernel of the same idea fits it"
        candidates = _candidates(study, kernel, idea, task)
        if _proposer_of(study, kernel) == "playbook":
            study.bench.trust(candidates)
        for source in candidates:
            outcome = _judged(study, source, shape)
            if isinstance(outcome, ShapeKernel):
                found.append(outcome)
                break
            reason = outcome
        else:
            leave_out(study, shape, reason)
    return found


def leave_out(study: Study, shape: int, reason: str) -> None:
    """Say that the original forward runs at that set of shapes, and why."""
    text = study.task.further[shape - 1].shape_text
    message = f"At {text} the original forward runs: {reason}"
    study.store.add_event(study.run_id, "notice", message)


def faster(measurement: Measurement | None) -> bool:
    """Whether the kernel beats eager and torch.compile by more than the spread of the times."""
    if measurement is None:
        return False
    best = measurement.best_compiled
    rivals = [measurement.eager] if best is None else [measurement.eager, best]
    return all(measurement.kernel.high < rival.low for rival in rivals)


def _candidates(study: Study, kernel: KernelRecord, idea: Idea, task: Task) -> list[str]:
    """Sources worth trying at other shapes, the most alike first, each once."""
    name = _proposer_of(study, kernel)
    proposer = next((p for p in study.proposers if p.name == name), None)
    same: list[str] = []
    others: list[str] = []
    for label, source in () if proposer is None else _branches(proposer, idea, task):
        chosen = kernel.chosen
        values = {} if chosen is None else dict(chosen.values)
        try:
            text = filled(source, values)
        except ContractError:
            continue
        (same if label == kernel.label else others).append(text)
    return list(dict.fromkeys([*same, kernel.source, *others]))[:TRIES]


def _proposer_of(study: Study, kernel: KernelRecord) -> str:
    return next(r.proposer for r in study.run.ideas if r.id == kernel.idea_id)


def _branches(proposer: Proposer, idea: Idea, task: Task) -> Iterator[tuple[str, str]]:
    """(label, source) of the idea's kernels as written for other shapes."""
    told = History(1, (), (), None, task.limit_seconds)
    try:
        for branch in proposer.branches(task, idea, told, 64):
            yield branch.label, branch.source
    except Exception as error:  # noqa: BLE001 (the winner's own text is left)
        reason_of(error, proposer, f"kernels of “{idea.title}” at {task.shape_text}")


def _judged(study: Study, source: str, shape: int) -> ShapeKernel | str:
    """The kernel with its verdict and times, or why it does not serve."""
    bench = study.bench
    verdict = bench.verify(source, shape).verdict
    if not verdict.accepted:
        return verdict.reason
    if not bench.device().measures:
        return ShapeKernel(shape, source, verdict, None, bench.estimate(source, shape))
    try:
        measurement = bench.measure(source, shape)
    except MeasurementRejected as error:
        return str(error.findings[0])
    except WorkerDied as error:
        return f"while it was timed: {error}"
    if not faster(measurement):
        return "the kernel is not faster there"
    return ShapeKernel(shape, source, verdict, measurement)
