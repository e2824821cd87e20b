"""The end of a search: the best verified kernel, checked as delivered, or an honest no."""

from __future__ import annotations

from search_engine.deliver.delivery import Delivery
from search_engine.judgement import DeliveredTimes, DeliveryCheck, SideBySide
from search_engine.proposers._base import Idea
from search_engine.search.loop import Study
from search_engine.search.proposer_faults import reason_of
from search_engine.search.shapes import faster, further_kernels, leave_out
from search_engine.store.records import KernelRecord, Run
from search_engine.verdict import Measurement, Sample
from search_engine.words import speedup_text, time_text

# How many kernels are tried as deliveries before giving up: one that passed alone fails
# as delivered only through a fault of ours.
ATTEMPTS = 3
# GPU times alone and as delivered differ by more than this: it is explained.
DIFFERENCE, DIFFERENCE_SECONDS = 0.05, 10e-6


def conclude(study: Study, why: str) -> str:
    """Offer the fastest verified kernel where it deserves it; the sentence for the user.

    On a device that measures it has to be faster than eager and than torch.compile in GPU
    time, bare and as delivered, and no slower than eager as one call from Python. Elsewhere
    it is offered as verified, with no claim about speed.
    """
    run = study.run
    if not run.accepted_kernels:
        return _none_verified(study, run, why)
    first = ""
    for kernel in run.accepted_kernels[:ATTEMPTS]:
        if study.bench.device().measures and not faster(kernel.measurement):
            break  # nor are those behind it
        study.store.set_progress(run.id, run.round, "checking the kernel as delivered")
        idea = next(record.idea for record in run.ideas if record.id == kernel.idea_id)
        delivery, checked = _rendered(study, kernel, idea)
        problem = _problem(checked)
        if problem is None:
            for remark in _remarks(kernel.measurement, checked.times):
                study.store.add_event(run.id, "notice", f"{idea.title} as delivered: {remark}")
            study.store.offer(run.id, kernel.id, delivery)
            return _offered(study, kernel, checked.times)
        study.store.add_event(run.id, "notice", f"{idea.title} as delivered: {problem}")
        first = first or problem
    if not first:
        return _nothing_faster(run.accepted_kernels[0])
    return f"Nothing is offered, the fastest kernel as delivered: {first}."


def _rendered(study: Study, kernel: KernelRecord, idea: Idea) -> tuple[Delivery, DeliveryCheck]:
    """The delivery with what the check of it at the task's own shapes found.

    Where it serves further shapes it was checked there too: what did not hold is left out.
    """
    further = further_kernels(study, kernel, idea)
    while True:
        delivery = study.bench.render(kernel, idea, *([further] if further else []))
        checked = study.bench.check_delivery(delivery, kernel)
        failed = None
        for other in further if _problem(checked) is None else []:
            problem = _problem(study.bench.check_delivery(delivery, kernel, other.shape))
            if problem is not None:
                failed = other
                leave_out(study, other.shape, f"as delivered: {problem}")
                break
        if failed is None:
            return delivery, checked
        further.remove(failed)


def _problem(checked: DeliveryCheck) -> str | None:
    """Why a delivery is not to be offered.

    It has to be faster in GPU time, and called alone not slower than eager: in a model that
    keeps the GPU waiting for Python, a short kernel is worth less than a cheap launch.
    """
    if not checked.verdict.accepted:
        return checked.verdict.reason
    times = checked.times
    if times is None:
        return None
    if not times.gpu.faster:
        return f"it is not faster ({_beside(times.gpu)})"
    if times.slower_than_eager_alone:
        return (
            f"called alone from Python, launch included, it is slower than eager "
            f"({_beside(times.alone)}); in GPU time it is faster ({_beside(times.gpu)})"
        )
    return None


def _remarks(measured: Measurement | None, times: DeliveredTimes | None) -> list[str]:
    """Where the times of the delivered module tell another story than the bare kernel's."""
    if times is None:
        return []
    remarks = []
    if times.slower_than_compile_alone:
        remarks.append(
            "called alone from Python, launch included, torch.compile's module is faster "
            f"({_beside(times.alone)}); where the GPU has work queued it is the kernel "
            f"({_beside(times.gpu)})"
        )
    if measured is not None:
        remarks += _difference(measured, times)
    return remarks


def _difference(measured: Measurement, times: DeliveredTimes) -> list[str]:
    """Why GPU time as delivered is not that of the bare kernel, where they are far apart."""
    bare, delivered = measured.kernel.median, times.gpu.delivered.median
    if abs(delivered - bare) <= DIFFERENCE * bare + DIFFERENCE_SECONDS:
        return []
    drift = times.gpu.eager.median / measured.eager.median
    if abs(delivered - bare * drift) <= DIFFERENCE * bare + DIFFERENCE_SECONDS:
        why = f"the GPU's own speed: eager took ×{drift:.2f} of its time before, too"
    else:
        why = (
            "the same launches, on memory that torch allocates at each call; eager took "
            f"×{drift:.2f} of its time before"
        )
    return [f"it takes {time_text(delivered)} of GPU time, {time_text(bare)} when measured: {why}"]


def _beside(times: SideBySide) -> str:
    text = f"{_ms(times.delivered)}; eager {_ms(times.eager)}"
    return text if times.compiled is None else f"{text}, torch.compile {_ms(times.compiled)}"


def _ms(sample: Sample) -> str:
    return time_text(sample.median)


# --- the last sentence ----------------------------------------------------------------


def _offered(study: Study, kernel: KernelRecord, times: DeliveredTimes | None) -> str:
    limit, measurement = time_text(study.task.limit_seconds), kernel.measurement
    if measurement is not None:
        text = f"{time_text(measurement.kernel.median)}, {speedup_text(measurement)}; limit {limit}"
        if times is not None and times.slower_than_compile_alone:
            text += f"; called alone from Python {_beside(times.alone)}"
        return text
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
    rivals = [("eager", measured.eager)]
    if measured.best_compiled is not None:
        rivals.append(("torch.compile", measured.best_compiled))
    kernel = measured.kernel
    unbeaten = [rival for rival in rivals if not kernel.high < rival[1].low]
    name, rival = min(unbeaten, key=lambda named: named[1].median)
    if kernel.median < rival.median:
        return (
            "Nothing found that is faster by more than the spread of the times: best kernel "
            f"{_with_spread(kernel)}, {name} {_with_spread(rival)}."
        )
    return f"Nothing faster found: best kernel {_ms(kernel)}, {name} {_ms(rival)}."


def _with_spread(sample: Sample) -> str:
    spread = (sample.high - sample.low) / 2 / sample.median
    return f"{_ms(sample)} ±{spread:.1%}"


def _none_verified(study: Study, run: Run, why: str) -> str:
    rejected = [k.verdict for k in run.kernels if k.verdict is not None]
    if rejected:
        return (
            f"Nothing is offered: none of {len(rejected)} kernels passed verification (the "
            f"first: {rejected[0].reason})."
        )
    for proposer in study.proposers:
        try:
            reason = proposer.unsupported(study.task)
        except Exception as error:  # noqa: BLE001 (the search ends with a sentence all the same)
            fault = reason_of(error, proposer, "whether it takes the task")
            reason = f"{proposer.name} cannot say what it has for the task ({fault})."
        if reason is not None:
            return f"Nothing is offered: {reason}"
    return f"Nothing is offered: {why}, and no kernel was verified."
