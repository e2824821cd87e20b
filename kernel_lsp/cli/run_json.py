"""A run as JSON for programs: ``runs --json`` (summaries) and ``show --json`` (everything)."""

from __future__ import annotations

import json
from typing import Any

from search_engine import serial
from search_engine.store.records import KernelRecord, Run


def _plain(value: Any) -> Any:
    return None if value is None else json.loads(serial.dumps(value))


def summary(run: Run) -> dict[str, Any]:
    """One run in a few fields; times in seconds."""
    best = run.best
    return {
        "run": run.id,
        "path": run.path,
        "class": run.qualname,
        "status": run.status,
        "alive": run.alive,
        "decision": run.decision,
        "message": run.message,
        "round": run.round,
        "created": run.created,
        "updated": run.updated,
        "target": None if run.task is None else run.task.target,
        "limit_seconds": None if run.task is None else run.task.limit_seconds,
        "kernels": len(run.kernels),
        "verified": len(run.accepted_kernels),
        "best": None if best is None else _times(best),
        "winner": None if run.winner is None else _times(run.winner),
    }


def _times(kernel: KernelRecord) -> dict[str, Any]:
    measured = kernel.measurement
    return {
        "kernel": kernel.id,
        "label": kernel.label,
        "values": {} if kernel.chosen is None else kernel.chosen.values,
        "measurement": _plain(measured),
        "over_eager": None if measured is None else measured.over_eager,
        "over_compile": None if measured is None else measured.over_compile,
        "estimate": _plain(kernel.estimate),
    }


def everything(run: Run, *, sources: bool) -> dict[str, Any]:
    """The run with task, baseline, ideas, kernels and verdicts; sources where asked for."""
    ideas = []
    for record in run.ideas:
        kernels = []
        for kernel in run.kernels_of(record):
            entry = _times(kernel) | {
                "verdict": _plain(kernel.verdict),
                "builds": [_plain(build) for build in kernel.builds],
                "configurations": [_plain(tried) for tried in kernel.configurations],
            }
            if sources:
                entry |= {"source": kernel.source, "template": kernel.template}
            kernels.append(entry)
        ideas.append(
            {
                "round": record.round,
                "proposer": record.proposer,
                **_plain(record.idea),
                "kernels": kernels,
            }
        )
    return summary(run) | {
        "settings": _plain(run.settings),
        "task": _plain(run.task),
        "baseline": _plain(run.baseline),
        "ideas": ideas,
        "delivery": _plain(run.delivery),
    }
