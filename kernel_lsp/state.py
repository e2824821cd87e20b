"""Where a class stands: what the buffer says and what the store says, as one phase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from attrs import frozen

from kernel_lsp.modules import ModuleClass

if TYPE_CHECKING:  # the store's types take their time to import: not before `initialize`
    from search_engine.deliver.delivery import Delivery
    from search_engine.recording import Recording
    from search_engine.store.records import Run

Phase: TypeAlias = Literal[
    "idle",  # no search yet, or its result was declined
    "waiting",  # a search that no process works on yet
    "running",
    "offered",  # a verified kernel waits for a decision
    "outdated",  # the same, but the class changed since
    "accepted",
    "stale",  # accepted, and the class changed since: the original forward runs
    "ended",  # nothing offered: nothing faster, stopped, failed
]


@frozen
class ClassRuns:
    """What the store has of one class: the newest run, the newest accepted, what was recorded."""

    latest: Run | None
    accepted: Run | None
    recording: Recording | None = None


@frozen
class Standing:
    """One class of a buffer with its runs.

    ``run`` is the newest. ``in_place`` is the accepted run whose decorator is on the class
    in this buffer, whatever the newest run came to.
    """

    module: ModuleClass
    phase: Phase
    run: Run | None
    in_place: Run | None
    recording: Recording | None = None


def decorated(module: ModuleClass, delivery: Delivery) -> bool:
    """Whether the delivery's decorator is on the class in the buffer."""
    return delivery.decorator_line.strip().lstrip("@").strip() in module.decorators


def changed(module: ModuleClass, run: Run) -> bool:
    """Whether the class is another than the run's; a broken class tells nothing."""
    return module.fingerprint is not None and module.fingerprint != run.fingerprint


def standing(module: ModuleClass, runs: ClassRuns | None) -> Standing:
    """Where the class stands."""
    if runs is None or runs.latest is None:
        return Standing(module, "idle", None, None, None if runs is None else runs.recording)
    accepted = runs.accepted
    in_place = (
        accepted
        if accepted is not None and accepted.delivery and decorated(module, accepted.delivery)
        else None
    )
    phase = _phase(module, runs.latest, in_place)
    return Standing(module, phase, runs.latest, in_place, runs.recording)


def _phase(module: ModuleClass, run: Run, in_place: Run | None) -> Phase:
    if run.active:
        return "running" if run.alive else "waiting"
    if run.delivery is None:
        return "ended"
    if in_place is not None and in_place.id == run.id:
        return "stale" if changed(module, run) else "accepted"
    # "accepted" here: the edit was undone in the editor, so there is a decision to take.
    if run.decision in ("pending", "accepted"):
        return "outdated" if changed(module, run) else "offered"
    if in_place is not None:
        return "stale" if changed(module, in_place) else "accepted"
    return "idle"


def headline(found: Standing) -> str:
    """The class's share of a step and its phase, for the first lens; empty where neither is."""
    return " · ".join(part for part in (_share(found), _phase_text(found)) if part)


def _share(found: Standing) -> str:
    if found.recording is None:
        return ""
    from kernel_lsp.presentation import share_phrase

    share = share_phrase(found.recording)
    outdated = share and found.recording.changed(found.module.fingerprint)
    return f"{share} before it changed" if outdated else share


def _phase_text(found: Standing) -> str:
    run = found.run
    if run is None:
        return ""
    from kernel_lsp.presentation import headroom_phrase, offer_phrase

    if found.phase == "waiting":
        return "waiting to start" if run.status == "queued" else "interrupted, taken up again soon"
    if found.phase == "running":
        return _running(run)
    if found.phase == "offered":
        return offer_phrase(run)
    if found.phase == "accepted":
        return offer_phrase(found.in_place or run)
    if found.phase == "outdated":
        return "source changed since this kernel was verified"
    if found.phase == "stale":
        return "source changed since this kernel was verified: the original forward runs"
    if found.phase == "ended":
        return " ".join(run.message.split())
    return headroom_phrase(run)


def _running(run: Run) -> str:
    """Round and best; what there is to gain until there is a best."""
    from kernel_lsp.presentation import best_phrase, headroom_phrase, status_sentence

    parts = [status_sentence(run), "" if best_phrase(run) else headroom_phrase(run)]
    return " · ".join(part for part in parts if part)
