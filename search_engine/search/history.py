"""What a proposer is told of the run so far."""

from __future__ import annotations

from search_engine.proposers._base import History, Tried
from search_engine.search import seeds
from search_engine.store.records import IdeaRecord, Run


def history(run: Run, round_number: int) -> History:
    """The history of ``run`` for round ``round_number`` (from 1); ``run`` has its task."""
    assert run.task is not None
    best = run.best
    return History(
        round=round_number,
        tried=tuple(_tried(run, record) for record in run.ideas),
        seeds=seeds.pick(run, run.settings.seeds),
        best_seconds=None if best is None else best.seconds,
        limit_seconds=run.task.limit_seconds,
    )


def _tried(run: Run, record: IdeaRecord) -> Tried:
    kernels = run.kernels_of(record)
    accepted = [k for k in kernels if k.verdict is not None and k.verdict.accepted]
    timed = [k for k in accepted if k.seconds is not None]
    best = min(timed, key=lambda k: k.seconds or 0.0, default=None)
    rejected = [k.verdict for k in kernels if k.verdict is not None and not k.verdict.accepted]
    return Tried(
        round=record.round,
        idea=record.idea,
        branches=len(kernels),
        accepted=len(accepted),
        best_seconds=None if best is None else best.seconds,
        findings=tuple(verdict.findings[0] for verdict in rejected if verdict.findings),
        labels=tuple(k.label for k in kernels),
        best_label="" if best is None else best.label,
    )
