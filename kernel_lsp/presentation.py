"""Runs in words: the same phrases for lens, hover, progress and the command line.

Plain text and markdown that read well at 80 columns, in an editor that renders it and in
one that does not. Free of torch, pygls and rich.
"""

from __future__ import annotations

import datetime
import re
import textwrap

from attrs import frozen

from search_engine.recording import Recording
from search_engine.store.records import Configuration, IdeaRecord, KernelRecord, Run
from search_engine.verdict import Measurement
from search_engine.words import factor_text, speedup_text, time_text

_WIDTH = 78
_VARIANTS = 4  # of a recording's inputs, in a hover
# The search's own words on the kernel at work: checking 2 of 8, “title”: label
_AT_WORK = re.compile(r"(?P<doing>\w+ \d+ of \d+), “(?P<title>.*)”(?:: .*)?$")


# --- numbers --------------------------------------------------------------------------


def gpu_text(name: str) -> str:
    """A GPU's name as short as people say it: ``H200``."""
    return name.removeprefix("NVIDIA ").removeprefix("GeForce ")


# --- phrases --------------------------------------------------------------------------


def headline_phrase(measurement: Measurement) -> str:
    """The smaller of the two speedups: what decides whether anything is offered."""
    over_compile = measurement.over_compile
    if over_compile is not None and over_compile <= measurement.over_eager:
        return f"{factor_text(over_compile)} over torch.compile"
    return f"{factor_text(measurement.over_eager)} over eager"


def kernel_phrase(kernel: KernelRecord) -> str:
    """A kernel's time with its speedups, or its estimate named as one."""
    if kernel.measurement is not None:
        time = time_text(kernel.measurement.kernel.median)
        return f"{time}, {speedup_text(kernel.measurement)}"
    if kernel.estimate is not None:
        target = gpu_text(kernel.estimate.target)
        return f"{time_text(kernel.estimate.seconds)} (estimate, {target})"
    return "verified, no time"


def configuration_phrase(tried: Configuration) -> str:
    """What came of one configuration of a kernel's tune lines."""
    if not tried.verdict.accepted:
        return f"rejected: {tried.verdict.reason}"
    if tried.measurement is not None:
        return time_text(tried.measurement.kernel.median)
    if tried.glance is not None:
        return f"given up after a first timing of {time_text(tried.glance.median)}"
    if tried.estimate is not None:
        return f"{time_text(tried.estimate.seconds)} (estimate)"
    return "verified, no time"


def share_phrase(recording: Recording) -> str:
    """``38% of the step``, empty where no step was timed."""
    if recording.share is None:
        return ""
    percent = 100 * recording.share
    return f"{percent:.0f}% of the step" if percent >= 1 else "under 1% of the step"


def recording_phrase(recording: Recording) -> str:
    """What was recorded of a class: ``38% of the step, 1,200 calls, x=float32[16, 64]``."""
    calls = _calls(recording.calls)
    if recording.variants:
        seen = recording.variants[0].description
        if len(recording.frequent) > 1:
            seen += f" and {len(recording.frequent) - 1} more"
    else:
        seen = f"inputs not known: {recording.undescribed}"
    return ", ".join(filter(None, [share_phrase(recording), calls, seen]))


def limit_phrase(run: Run, kernel: KernelRecord) -> str:
    """``83% of the limit``, empty where the limit or the time is unknown."""
    if run.task is None or not kernel.seconds:
        return ""
    return f"{100 * run.task.limit_seconds / kernel.seconds:.0f}% of the limit"


def best_phrase(run: Run) -> str:
    """The best kernel so far in a few words, empty where there is none."""
    best = run.best
    if best is None:
        return ""
    if best.measurement is not None:
        return f"best {headline_phrase(best.measurement)}"
    if best.estimate is not None:
        return f"best {kernel_phrase(best)}"
    return f"{len(run.accepted_kernels)} verified"


def headroom_phrase(run: Run) -> str:
    """What the hardware leaves to gain: ``eager 8.10 ms · limit 0.130 ms · headroom ×62.3``.

    Without a measured eager time only the limit, empty where that is unknown too.
    """
    if run.task is None:
        return ""
    limit = run.task.limit_seconds
    baseline = run.baseline
    if baseline is None or limit <= 0:
        return f"limit {time_text(limit)} ({gpu_text(run.task.target).upper()})"
    eager = baseline.eager.median
    return (
        f"eager {time_text(eager)} · limit {time_text(limit)} · headroom "
        f"{factor_text(eager / limit)}"
    )


def limit_sentence(run: Run) -> str:
    """What the limit is and what sets it, for a reader who meets the word for the first time."""
    if run.task is None or not run.task.limit_reason:
        return ""
    return f"The limit is the least time the hardware allows, set by {run.task.limit_reason}."


def offer_phrase(run: Run) -> str:
    """What is offered in a few words; an estimate is said to be one."""
    if run.delivery is None:
        return ""
    estimate = None if run.winner is None else run.winner.estimate
    if estimate is None or (run.winner is not None and run.winner.measurement is not None):
        return run.delivery.summary
    time, target = time_text(estimate.seconds), gpu_text(estimate.target)
    return f"{run.delivery.summary} · estimate {time} ({target})"


def result_phrase(run: Run) -> str:
    """What a run came to, or has come to so far, in one phrase."""
    kernel = run.winner or (run.best if run.active else None)
    if kernel is not None:
        return kernel_phrase(kernel)
    if run.active:
        return "nothing verified yet"
    return {"failed": "failed", "stopped": "stopped"}.get(run.status, "nothing faster found")


def status_sentence(run: Run) -> str:
    """Where a run is: what it does while active, how it ended afterwards."""
    if not run.active:
        return run.message
    if run.stop_requested:
        return "stopping"
    if run.round == 0:
        return run.message
    parts = [f"round {run.round}/{run.settings.rounds}", best_phrase(run)]
    return " · ".join(part for part in parts if part)


def progress_message(run: Run) -> str:
    """One line of live progress, what matters first: editors cut it where it does not fit.

    Round, what is being done, the best so far, and the idea at work. A kernel's own label
    (``threads=128, vector=4``) is for the log.
    """
    if run.stop_requested:
        return "stopping after this kernel"
    if run.round == 0:
        return run.message
    doing, title = run.message, ""
    at_work = _AT_WORK.match(run.message)
    if at_work is not None:
        doing, title = at_work["doing"], at_work["title"]
    parts = [f"round {run.round}/{run.settings.rounds}", doing, best_phrase(run), title]
    return " · ".join(part for part in parts if part)


def progress_share(run: Run) -> float:
    """How much of the search is done at most, from 0 to 1: rounds, and kernels of the round."""
    if run.round == 0:
        return 0.0
    now = [k for idea in run.ideas if idea.round == run.round for k in run.kernels_of(idea)]
    size = max(run.settings.ideas * run.settings.branches, len(now), 1)
    within = sum(kernel.finished for kernel in now) / size
    return min((run.round - 1 + within) / max(run.settings.rounds, 1), 1.0)


# --- ideas ----------------------------------------------------------------------------


@frozen
class IdeaRow:
    """An idea with its outcome so far."""

    round: int
    title: str
    category: str
    proposer: str
    outcome: str  # its best kernel's time and speedups, or why it has none
    seconds: float | None  # of its best kernel
    winner: bool


def idea_rows(run: Run) -> list[IdeaRow]:
    """Every idea of a run in the order of the rounds."""
    return [_idea_row(run, record) for record in run.ideas]


def _idea_row(run: Run, record: IdeaRecord) -> IdeaRow:
    kernels = run.kernels_of(record)
    verified = [k for k in kernels if k.verdict is not None and k.verdict.accepted]
    best = min(verified, key=lambda k: k.seconds or float("inf"), default=None)
    return IdeaRow(
        round=record.round,
        title=record.idea.title,
        category=record.idea.category,
        proposer=record.proposer,
        outcome=_outcome(run, record, kernels, best),
        seconds=None if best is None else best.seconds,
        winner=any(k.id == run.winner_id for k in kernels),
    )


def _outcome(
    run: Run,
    record: IdeaRecord,
    kernels: tuple[KernelRecord, ...],
    best: KernelRecord | None,
) -> str:
    if best is not None and best.seconds is not None:
        return ", ".join(part for part in (kernel_phrase(best), limit_phrase(run, best)) if part)
    if not kernels:
        if record.branched or not run.active:
            return "no kernel was made of it"
        return "kernels are being written"
    if any(not kernel.finished for kernel in kernels):
        done = sum(kernel.finished for kernel in kernels)
        if not run.active:
            return f"not finished: {done} of {len(kernels)} kernels checked"
        return f"{done} of {len(kernels)} kernels checked" if done else "waiting to be checked"
    if best is not None:
        return kernel_phrase(best)
    reasons = [k.verdict.reason for k in kernels if k.verdict is not None]
    return f"rejected: {reasons[0]}" if reasons else "rejected"


# --- recordings ----------------------------------------------------------------------


def recording_markdown(recording: Recording, *, changed: bool) -> str:
    """What was recorded of a class, as markdown; ``changed``: the class is another one now."""
    when = datetime.datetime.fromtimestamp(recording.recorded).strftime("%Y-%m-%d %H:%M")
    name, command = escape(recording.qualname), escape(recording.command)
    head = f"**{name}** · recorded from {command} on {escape(recording.device)}, {when}"
    blocks = [_wrap(head + (". The class changed since: record again." if changed else ""))]
    blocks.append(_wrap(escape(_recorded_times(recording))))
    lines = [
        _item(f"- {escape(variant.description)} · {_calls(variant.calls)}")
        for variant in recording.variants[:_VARIANTS]
    ]
    if not lines and recording.undescribed:
        lines = [_wrap(escape(f"Its inputs cannot be used: {recording.undescribed}."))]
    return "\n\n".join(filter(None, [*blocks, "\n".join(lines)])) + "\n"


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"


def _recorded_times(recording: Recording) -> str:
    share, own = share_phrase(recording), recording.self_share
    parts = [_calls(recording.calls)]
    if recording.seconds is not None:
        parts.append(f"{time_text(recording.seconds)} each")
    if share and own is not None:
        parts.append(f"{share}, {100 * own:.0f}% without the modules in it")
    text = ", ".join(parts) + "."
    if recording.graded:
        every = "all" if recording.graded == recording.calls else f"{recording.graded:,}"
        text += f" In {every} of them gradients were enabled: there the original forward runs."
    return text


# --- markdown -------------------------------------------------------------------------

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~]|(?<=:)/(?=/)|(?<=www)\.)")  # bare URLs become links too


def escape(text: str) -> str:
    """Text as markdown shows it literally: ideas may come from a model, links must not."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, _WIDTH, initial_indent=indent, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def run_markdown(run: Run, standing: str = "") -> str:
    """A run as markdown: where it is, its ideas, the winner and why it wins.

    ``standing`` is one sentence on where the result stands in the user's file; without it
    the store's own record of the decision is told.
    """
    blocks = [_wrap(f"**{escape(run.qualname)}** · {escape(status_sentence(run))}")]
    headroom = headroom_phrase(run)
    if headroom:
        blocks.append(_wrap(". ".join(filter(None, [headroom, escape(limit_sentence(run))]))))
    if run.winner is not None:
        blocks.append(_winner(run, run.winner))
    standing = standing or _decision_sentence(run)
    if standing:
        blocks.append(_wrap(standing))
    rows = idea_rows(run)
    for round_number in sorted({row.round for row in rows}):
        blocks.append(_round(round_number, [row for row in rows if row.round == round_number]))
    if run.task is not None and run.task.notes:
        blocks.append("\n".join(_wrap(f"Note: {escape(note)}") for note in run.task.notes))
    return "\n\n".join(blocks) + "\n"


def _round(number: int, rows: list[IdeaRow]) -> str:
    proposers = ", ".join(dict.fromkeys(row.proposer for row in rows))
    lines = [f"**Round {number}** ({escape(proposers)})", ""]
    for row in rows:
        mark = " · *winner*" if row.winner else ""
        lines.append(_item(f"- **{escape(row.title)}**{mark}"))
        # Two spaces at a line's end are markdown's line break inside a list item.
        lines[-1] += "  "
        lines.append(_wrap(escape(f"{row.category} · {row.outcome}"), "  "))
    return "\n".join(lines)


def _item(text: str) -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent="  ", break_long_words=False)


def _winner(run: Run, kernel: KernelRecord) -> str:
    delivery = run.delivery
    lines = []
    if delivery is not None:
        lines.append(_wrap(f"**{escape(delivery.title)}**: {_full_phrase(run, kernel)}"))
        lines.append("")
        lines.append(_wrap(escape(delivery.rationale)))
        if len(delivery.shapes) > 1:
            shapes = [_item(f"- {escape(s.text)}: {escape(s.summary)}") for s in delivery.shapes]
            lines += ["", "Verified at:", "", *shapes]
    else:
        lines.append(_wrap(_full_phrase(run, kernel)))
    verified = _verified_sentence(kernel)
    if verified:
        lines += ["", _wrap(verified)]
    return "\n".join(lines)


def _full_phrase(run: Run, kernel: KernelRecord) -> str:
    parts = [kernel_phrase(kernel), limit_phrase(run, kernel)]
    return ", ".join(part for part in parts if part)


def _verified_sentence(kernel: KernelRecord) -> str:
    verdict = kernel.verdict
    if verdict is None or not verdict.accepted:
        return ""
    sentence = f"Verified on {escape(verdict.device)}"
    worst = verdict.worst
    if worst is not None:
        sentence += f": error {worst.error:.2g} against fp64, bound {worst.bound:.2g}"
    if kernel.measurement is None:
        sentence += "; not measured, there was no GPU"
    notes = "; ".join(escape(note) for note in verdict.notes)
    return f"{sentence}. Note: {notes}." if notes else f"{sentence}."


def _decision_sentence(run: Run) -> str:
    return {
        "none": "",
        "pending": "It waits for your decision: Accept or Reject.",
        "accepted": "Accepted.",
        "rejected": "Rejected.",
        "reverted": "Accepted once, then reverted.",
    }[run.decision]
