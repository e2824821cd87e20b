"""What comes back from checking and timing a kernel. Plain data, free of torch."""

from __future__ import annotations

from attrs import frozen


@frozen
class Finding:
    """One reason against a kernel.

    ``check`` is the check's stable name ("launch-syntax", "race", "accuracy",
    "red-zone"); ``place`` is where in the data or the grid ("out[3, 17]",
    "block (0, 0, 0) thread (5, 0, 0)"); line and column are 1-based in the source.
    """

    check: str
    message: str
    line: int | None = None
    column: int | None = None
    place: str | None = None

    def __str__(self) -> str:
        where = "" if self.line is None else f"line {self.line}"
        if where and self.column is not None:
            where += f", column {self.column}"
        parts = [part for part in (where, self.place) if part]
        return f"{self.check}: {self.message}" + (f" ({'; '.join(parts)})" if parts else "")


@frozen
class Accuracy:
    """Errors of one output over one distribution, against fp64, relative to the output's norm."""

    output: str
    distribution: str
    error: float
    eager_error: float
    bound: float
    worst_row_error: float
    worst_row_bound: float

    @property
    def ratio(self) -> float:
        """The kernel's error over eager's (infinite where eager's is zero and ours is not)."""
        if self.eager_error == 0.0:
            return 0.0 if self.error == 0.0 else float("inf")
        return self.error / self.eager_error


@frozen
class Verdict:
    """The outcome of verification on one device."""

    accepted: bool
    device: str  # "NVIDIA H200", "cpu (SIMT)"
    findings: tuple[Finding, ...] = ()
    accuracy: tuple[Accuracy, ...] = ()
    notes: tuple[str, ...] = ()  # "checked with a first dimension of 4 instead of 128"
    seconds: float = 0.0  # what the verification took

    @property
    def worst(self) -> Accuracy | None:
        """The accuracy figure nearest to its bound."""
        return max(self.accuracy, key=lambda a: a.error / a.bound, default=None)

    @property
    def reason(self) -> str:
        """The first finding as one line, empty when accepted."""
        return str(self.findings[0]) if self.findings else ""


@frozen
class BuildInfo:
    """What the compiler said of one kernel function."""

    function: str
    registers: int | None = None
    shared_bytes: int | None = None
    local_bytes: int | None = None  # spills and stack, per thread
    log: str = ""


@frozen
class Sample:
    """A time with its spread: median and the 95% interval of the median, in seconds."""

    median: float
    low: float
    high: float
    repeats: int


@frozen
class Baseline:
    """Eager and torch.compile (by mode) without any kernel: what headroom is told from."""

    device: str
    eager: Sample
    compiled: dict[str, Sample]
    notes: tuple[str, ...] = ()


@frozen
class Measurement:
    """Times of one interleaved session on a real GPU, always with the baselines.

    ``compiled`` maps torch.compile's mode to its sample; it is empty only where
    torch.compile failed, and then ``notes`` says so.
    """

    device: str
    kernel: Sample
    eager: Sample
    compiled: dict[str, Sample]
    notes: tuple[str, ...] = ()

    @property
    def best_compiled(self) -> Sample | None:
        """The fastest torch.compile mode."""
        return min(self.compiled.values(), key=lambda s: s.median, default=None)

    @property
    def over_eager(self) -> float:
        """Speedup over eager."""
        return self.eager.median / self.kernel.median

    @property
    def over_compile(self) -> float | None:
        """Speedup over the fastest torch.compile mode, None where it failed."""
        best = self.best_compiled
        return None if best is None else best.median / self.kernel.median

    @property
    def headline(self) -> float:
        """The smaller of the two speedups: what decides whether anything is offered."""
        over_compile = self.over_compile
        return self.over_eager if over_compile is None else min(self.over_eager, over_compile)


@frozen
class Estimate:
    """A modelled time from the cpu device; never called a measurement or ranked against one."""

    target: str  # name of the modelled GPU
    seconds: float
    bound_by: str  # "DRAM", "L2", "shared memory", "issue", "latency"
    breakdown: dict[str, float]  # seconds by bounding unit
