"""What the store holds, as plain data. Free of torch."""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import field, frozen

from search_engine.deliver.delivery import Delivery
from search_engine.proposers._base import Idea
from search_engine.settings import SearchSettings
from search_engine.task import CaptureRequest, Task
from search_engine.verdict import Baseline, BuildInfo, Estimate, Measurement, Sample, Verdict

# queued: written by who clicked, no search process yet. running: a search process holds the
# lease. finished / stopped / failed: the end; `message` says why in one sentence.
Status: TypeAlias = Literal["queued", "running", "finished", "stopped", "failed"]
# none: nothing to decide (no kernel offered). pending: a delivery waits.
Decision: TypeAlias = Literal["none", "pending", "accepted", "rejected", "reverted"]

ENDED: frozenset[str] = frozenset({"finished", "stopped", "failed"})


@frozen
class IdeaRecord:
    """One idea of a run."""

    id: int
    round: int
    position: int
    proposer: str
    idea: Idea
    branched: bool  # all its branches are in the store


@frozen
class Configuration:
    """One choice of values for a kernel's tune lines, with what came of it.

    ``glance`` is the first, short timing, and all there is where it said that the
    configuration cannot be the fastest. ``seconds`` is what trying it took.
    """

    values: dict[str, str]
    verdict: Verdict
    builds: tuple[BuildInfo, ...] = ()
    glance: Sample | None = None
    measurement: Measurement | None = None
    estimate: Estimate | None = None
    seconds: float = 0.0

    @property
    def time(self) -> Sample | None:
        """The measured time where there is one, else the estimate, as a time without spread."""
        if self.measurement is not None:
            return self.measurement.kernel
        if self.estimate is None:
            return None
        modelled = self.estimate.seconds
        return Sample(modelled, modelled, modelled, 0)


@frozen
class KernelRecord:
    """One branch of an idea with everything known of it so far.

    A branch with tune lines is one kernel: ``template`` is its text with the lines open,
    ``configurations`` are those tried so far, and ``source``, verdict and times are of the
    best of them.
    """

    id: int
    idea_id: int
    position: int
    label: str
    source: str
    builds: tuple[BuildInfo, ...]
    verdict: Verdict | None
    measurement: Measurement | None
    estimate: Estimate | None
    created: float  # unix time
    finished: bool  # nothing more will be done with it
    template: str | None = None
    configurations: tuple[Configuration, ...] = ()

    @property
    def chosen(self) -> Configuration | None:
        """The configuration that ``source`` is."""
        tried = self.configurations
        timed = [c for c in tried if c.verdict.accepted and c.time is not None]
        passed = [c for c in tried if c.verdict.accepted]
        fastest = min(timed, key=lambda c: c.time.median if c.time else 0.0, default=None)
        return fastest or next(iter([*passed, *tried]), None)

    @property
    def name(self) -> str:
        """The label with the values of the tune lines: ``two rows, BLOCK=256``."""
        values = {} if self.chosen is None else self.chosen.values
        return ", ".join(filter(None, [self.label, *(f"{k}={v}" for k, v in values.items())]))

    @property
    def seconds(self) -> float | None:
        """Measured median where there is a measurement, else the estimate."""
        if self.measurement is not None:
            return self.measurement.kernel.median
        return None if self.estimate is None else self.estimate.seconds


@frozen
class Environment:
    """What a search ran on: what verdicts and times were found with."""

    device: str  # "NVIDIA H200", "cpu (SIMT)"
    gpu: str  # the one that kernels are made for; on the cpu device it stands in for it
    torch: str
    python: str
    kernel_lsp: str

    def __str__(self) -> str:
        device = self.device if self.device == self.gpu else f"{self.device} for {self.gpu}"
        return f"{device}, torch {self.torch}, Python {self.python}, kernel-lsp {self.kernel_lsp}"

    def same_device(self, other: Environment) -> bool:
        """Whether times found on one compare with those found on the other."""
        return (self.device, self.gpu) == (other.device, other.gpu)


@frozen
class Run:
    """One search from start to end, with all that it found."""

    id: str
    path: str
    qualname: str
    fingerprint: str
    request: CaptureRequest
    settings: SearchSettings
    status: Status
    message: str  # progress while it runs, the outcome once it ended
    decision: Decision
    round: int
    created: float
    updated: float
    stop_requested: bool
    task: Task | None
    baseline: Baseline | None
    ideas: tuple[IdeaRecord, ...]
    kernels: tuple[KernelRecord, ...]
    winner_id: int | None
    delivery: Delivery | None
    alive: bool  # a search process holds the lease and its heartbeat is fresh
    environment: Environment | None = None  # None until the module was captured

    _kernels_by_id: dict[int, KernelRecord] = field(init=False, repr=False, eq=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self._kernels_by_id.update({kernel.id: kernel for kernel in self.kernels})

    @property
    def active(self) -> bool:
        """Not at its end; it may wait for a process to take it up again."""
        return self.status not in ENDED

    @property
    def accepted_kernels(self) -> tuple[KernelRecord, ...]:
        """Verified kernels, fastest first; those without a time come last."""
        verified = (k for k in self.kernels if k.verdict is not None and k.verdict.accepted)
        return tuple(sorted(verified, key=lambda k: k.seconds or float("inf")))

    @property
    def best(self) -> KernelRecord | None:
        """The fastest verified kernel."""
        return next(iter(self.accepted_kernels), None)

    @property
    def winner(self) -> KernelRecord | None:
        """The kernel that is offered, once the run ended."""
        return None if self.winner_id is None else self._kernels_by_id[self.winner_id]

    def kernels_of(self, idea: IdeaRecord) -> tuple[KernelRecord, ...]:
        """The branches of one idea."""
        return tuple(k for k in self.kernels if k.idea_id == idea.id)


@frozen
class RunHead:
    """What tells whether a run changed, without its ideas and kernels."""

    id: str
    qualname: str
    status: Status
    decision: Decision
    updated: float  # unix time; kernels of an active run change without it


@frozen
class Event:
    """One line of a run's log, for people."""

    id: int
    run_id: str
    time: float
    kind: str  # "capture", "idea", "kernel", "verdict", "measurement", "notice", "end"
    message: str
