"""The median's interval covers the median as often as it says."""

from __future__ import annotations

import random

import pytest

from search_engine.measure.statistics import sample_of


# Ranks (1-based, lower) of the 95% interval from published tables of the sign test.
@pytest.mark.parametrize(
    ("count", "rank"), [(6, 1), (8, 1), (9, 2), (15, 4), (20, 6), (25, 8), (50, 18)]
)
def test_ranks_are_those_of_the_tables(count, rank):
    values = [float(v) for v in range(1, count + 1)]
    random.Random(1).shuffle(values)
    sample = sample_of(values)
    assert (sample.low, sample.high) == (rank, count + 1 - rank)
    assert sample.median == (count + 1) / 2
    assert sample.repeats == count


def test_too_few_are_refused():
    with pytest.raises(ValueError, match="no 95% interval"):
        sample_of([1.0] * 5)


def test_coverage_with_skewed_times():
    source = random.Random(2)
    hits = 0
    for _ in range(2000):
        sample = sample_of([1 + source.expovariate(1.0) for _ in range(21)])
        hits += sample.low <= 1 + 0.6931471805599453 <= sample.high
    assert hits >= 0.95 * 2000 - 30  # three standard deviations of the count below
