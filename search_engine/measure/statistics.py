"""Median and its confidence interval. Free of torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from search_engine.verdict import Sample

LEAST_REPEATS = 6  # with fewer, even the whole range covers the median with less than 95%


def sample_of(seconds: Sequence[float]) -> Sample:
    """The median of repeated times with its 95% interval, from order statistics.

    The interval is distribution-free: the number of times below the true median is
    binomial with p = 1/2 (David and Nagaraja, Order Statistics, 7.1). It is never
    narrower than 95% and needs no normality, which times do not have. Raises ValueError
    for fewer than six times.
    """
    count = len(seconds)
    if count < LEAST_REPEATS:
        raise ValueError(f"{count} times give no 95% interval of the median")
    ordered = sorted(seconds)
    low = _rank(count)
    return Sample(statistics.median(ordered), ordered[low], ordered[count - 1 - low], count)


def _rank(count: int) -> int:
    """The largest 0-based rank k for which [x_k, x_{n-1-k}] covers the median with 95%."""
    rank, tail = 0, 2.0**-count
    while 2 * (tail + math.comb(count, rank + 1) * 2.0**-count) <= 0.05:
        rank += 1
        tail += math.comb(count, rank) * 2.0**-count
    return rank
