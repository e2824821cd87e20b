"""The end of a search: the best verified kernel, checked as delivered, or an honest no."""

from __future__ import annotations

from search_engine.judgement import DeliveryCheck
from search_engine.search.loop import Study
from search_engine.search.words import speedup_text, time_text
from search_engine.store.records import KernelRecord, Run
from search_engine.verdict import Measurement, Sample

# How many kernels are tried as deliveries before giving up: one that passed alone fails
# as delivered only through a fault of ours.
ATTEMPTS = 3


def conclude(study: Study, why: str) -> str:
    """Offer the fastest verified kernel where it deserves it; the sentence for the user.

    On a device that measures it has to be faster than eager and than torch.compile, alone
    and as delivered. Elsewhere it is offered as verified, with no claim about speed.
    """
    run = study.run
    if not run.accepted_kernels:
        return _none_verified(study, run, why)
    for kernel in run.accepted_kernels[:ATTEMPTS]:
        if study.bench.device().measures and not faster(kernel.measurement):
            return _nothing_faster(run.accepted_kernels[0])
        study.store.set_progress(run.id, run.round, "checking the kernel as delivered")
        idea = next(record.idea for record in run.ideas if record.id == kernel.idea_id)
        delivery = study.bench.render(kernel, idea)
        problem = _problem(study.bench.check_delivery(delivery, kernel))
        if problem is None:
            study.store.offer(run.id, kernel.id, delivery)
            return _offered(study, kernel)
        study.store.add_event(run.id, "notice", f"{idea.title} as delivered: {problem}")
    return "Nothing is offered: no kernel kept its verdict and its speed as delivered."


def faster(measurement: Measurement | None) -> bool:
    """Whether the kernel beats eager and torch.compile by more than the spread of the times."""
    if measurement is None:
        return False
    best = measurement.best_compiled
    rivals = [measurement.eager] if best is None else [measurement.eager, best]
    return all(measurement.kernel.high < rival.low for rival in rivals)


def _problem(checked: DeliveryCheck) -> str | None:
    """Why a delivery is not to be offered."""
    if not checked.verdict.accepted:
        return checked.verdict.reason
    times = checked.times
    if times is not None and not times.faster:
        compiled = "" if times.compiled is None else f", torch.compile {_ms(times.compiled)}"
        return (
            f"called from Python it is not faster ({_ms(times.delivered)}; eager "
            f"{_ms(times.eager)}{compiled})"
        )
    return None


def _ms(sample: Sample) -> str:
    return time_text(sample.median)


# --- the last sentence ----------------------------------------------------------------


def _offered(study: Study, kernel: KernelRecord) -> str:
    limit, measurement = time_text(study.task.limit_seconds), kernel.measurement
    if measurement is not None:
        return f"{time_text(measurement.kernel.median)}, {speedup_text(measurement)}; limit {limit}"
    if kernel.estimate is not None:
        estimate = kernel.estimate
        return (
            f"Verified, not measured: estimate {time_text(estimate.seconds)} on "
            f"{estimate.target}, limit {limit}."
        )
    return f"Verified, not measured; limit {limit}."


def _nothing_faster(best: KernelRecord) -> str:
    measured = best.measurement
    if measured is None:
        return "Nothing faster found: the verified kernels could not be timed."
    rivals = [("eager", measured.eager.median)]
    if measured.best_compiled is not None:
        rivals.append(("torch.compile", measured.best_compiled.median))
    name, seconds = min(rivals, key=lambda rival: rival[1])
    return (
        f"Nothing faster found: best kernel {time_text(measured.kernel.median)}, "
        f"{name} {time_text(seconds)}."
    )


def _none_verified(study: Study, run: Run, why: str) -> str:
    rejected = [k.verdict for k in run.kernels if k.verdict is not None]
    if rejected:
        return (
            f"Nothing is offered: none of {len(rejected)} kernels passed verification (the "
            f"first: {rejected[0].reason})."
        )
    for proposer in study.proposers:
        reason = proposer.unsupported(study.task)
        if reason is not None:
            return f"Nothing is offered: {reason}"
    return f"Nothing is offered: {why}, and no kernel was verified."
