"""What a user can do with a class, by phase: one list for lenses and code actions."""

from __future__ import annotations

from attrs import frozen

from kernel_lsp.state import Phase, Standing, changed

OPTIMIZE = "kernelLsp.optimize"
STOP = "kernelLsp.stop"
RESUME = "kernelLsp.resume"
SHOW_RUN = "kernelLsp.showRun"
SHOW_KERNEL = "kernelLsp.showKernel"
SHOW_DIFF = "kernelLsp.showDiff"
ACCEPT = "kernelLsp.accept"
REJECT = "kernelLsp.reject"
REVERT = "kernelLsp.revert"
INSERT_INPUTS = "kernelLsp.insertInputs"
LIST_RUNS = "kernelLsp.listRuns"

COMMANDS = (
    OPTIMIZE, STOP, RESUME, SHOW_RUN, SHOW_KERNEL, SHOW_DIFF, ACCEPT, REJECT, REVERT,
    INSERT_INPUTS, LIST_RUNS,
)  # fmt: skip


@frozen
class Offer:
    """A command with its short title (lens) and the one that stands alone (code action)."""

    command: str
    lens: str
    action: str


_OPTIMIZE = Offer(OPTIMIZE, "Optimize with CUDA kernel", "Optimize with CUDA kernel")
_AGAIN = Offer(OPTIMIZE, "Search again", "Optimize with CUDA kernel again")
_RESUME = Offer(RESUME, "Resume", "Resume the search for a CUDA kernel")
_STOP = Offer(STOP, "Stop", "Stop the search for a CUDA kernel")
_DIFF = Offer(SHOW_DIFF, "Show diff", "Show diff of the CUDA kernel")
_ACCEPT = Offer(ACCEPT, "Accept", "Accept the CUDA kernel")
_REJECT = Offer(REJECT, "Reject", "Reject the CUDA kernel")
_KERNEL = Offer(SHOW_KERNEL, "Show kernel", "Show the CUDA kernel")
_REVERT = Offer(REVERT, "Revert", "Revert to the original forward")

_BY_PHASE: dict[Phase, tuple[Offer, ...]] = {
    "idle": (_OPTIMIZE,),
    "waiting": (_STOP,),
    "running": (_STOP,),
    "offered": (_DIFF, _ACCEPT, _REJECT),
    "outdated": (_AGAIN, _REJECT),
    "accepted": (_KERNEL, _REVERT),
    "stale": (_AGAIN, _REVERT),
    "ended": (_AGAIN,),
}


def offers(found: Standing) -> tuple[Offer, ...]:
    """What can be done with the class now."""
    by_phase = _BY_PHASE[found.phase]
    if found.run is not None and found.run.active and found.run.stop_requested:
        by_phase = ()  # asked to stop already
    if _stopped_early(found):
        by_phase = (_RESUME, *by_phase)
    # An earlier kernel may still be in place while a newer search runs or ended.
    if found.in_place is not None and _REVERT not in by_phase and found.phase != "running":
        return (*by_phase, _REVERT)
    return by_phase


def _stopped_early(found: Standing) -> bool:
    """Whether somebody stopped the search of the class as it is now, which can go on."""
    run = found.run
    if run is None or run.status != "stopped" or found.phase not in ("ended", "offered"):
        return False
    return not changed(found.module, run)
