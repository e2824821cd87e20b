"""Times, speedups and outcomes in words: the same everywhere. Free of torch."""

from __future__ import annotations

from search_engine.store.records import KernelRecord
from search_engine.verdict import Measurement


def time_text(seconds: float) -> str:
    """Three significant digits: ``31.6 µs``, ``0.164 ms``, ``8.10 ms``, ``2.50 s``."""
    if seconds < 1e-7:
        return f"{_digits(seconds * 1e9)} ns"
    if seconds < 1e-4:
        return f"{_digits(seconds * 1e6)} µs"
    if seconds < 1:
        return f"{_digits(seconds * 1e3)} ms"
    return f"{_digits(seconds)} s"


def _digits(value: float) -> str:
    if value < 0.9995:
        return f"{value:.3f}"
    # The bounds are where rounding would add a digit.
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def factor_text(factor: float) -> str:
    """A speedup with three significant digits: ``×1.31``, ``×31.6``, ``×316``."""
    return f"×{_digits(factor)}"


def speedup_text(measurement: Measurement) -> str:
    """``×1.31 over torch.compile, ×31.6 over eager``."""
    eager = f"{factor_text(measurement.over_eager)} over eager"
    over_compile = measurement.over_compile
    if over_compile is None:
        return f"{eager} (torch.compile failed)"
    return f"{factor_text(over_compile)} over torch.compile, {eager}"


def outcome_text(kernel: KernelRecord) -> str:
    """What came of a kernel, in one phrase."""
    if kernel.verdict is None:
        return "not checked yet"
    if not kernel.verdict.accepted:
        return f"rejected, {kernel.verdict.reason}"
    if kernel.measurement is not None:
        return f"{time_text(kernel.measurement.kernel.median)}, {speedup_text(kernel.measurement)}"
    if kernel.estimate is not None:
        estimate = kernel.estimate
        return f"verified, estimate {time_text(estimate.seconds)} on {estimate.target}"
    return "verified"
