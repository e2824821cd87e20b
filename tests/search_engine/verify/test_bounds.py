from __future__ import annotations

import importlib.util
import math
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search_engine.verify import bounds
from search_engine.verify.errors import ErrorSums, index_of, worst_element

ROOT = Path(__file__).parents[3]


def test_the_constants_of_the_design():
    assert bounds.bound(1e-9, "float32", 10**6) == pytest.approx(1.9e-6, rel=0.01)
    assert bounds.bound(2.9e-4, "float32", 10**6) == pytest.approx(5.8e-4)
    assert bounds.bound(0.0, "float32", 64) == 2.0**-23 * 8 / 4
    assert bounds.worst_row_bound(1e-6, 0.0) == 4e-6
    # Half precision: one rounding, however long the sum in fp32.
    assert bounds.floor("bfloat16", 4096) == 2.0**-7 / 4


def test_the_line_lies_between_honest_kernels_and_evasions():
    spec = importlib.util.spec_from_file_location("line", ROOT / "benchmarks/accuracy_line.py")
    line = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(line)
    shares, kinds = defaultdict(float), {}
    for row in line.rows(seed=1):
        key = (row.task.partition(",")[0], row.kernel)
        shares[key] = max(shares[key], row.share)
        kinds[key] = row.kind
    assert len(shares) > 20
    for key, share in shares.items():
        assert (share <= 0.75) if kinds[key] == "honest" else (share >= 2), (key, share)


def sums(got, expected, finite=True):
    return ErrorSums.of(torch.tensor(got), torch.tensor(expected).double(), finite=finite)


def test_errors_pool_over_draws():
    pooled = ErrorSums()
    pooled.add(sums([[3.0, 4.0]], [[3.0, 4.0]]))
    pooled.add(sums([[3.0, 5.0]], [[3.0, 4.0]]))
    assert pooled.relative == pytest.approx(math.sqrt(1 / 50))
    assert pooled.worst_row == pytest.approx(math.sqrt(1 / 50))


def test_the_worst_row_is_relative_to_itself():
    one = sums([[100.0, 100.0], [1.0, 3.0]], [[100.0, 100.0], [1.0, 2.0]])
    assert one.relative < 0.01
    assert one.worst_row > 0.09  # a tenth of the typical row's norm is the least divisor


def test_zero_references():
    assert sums([0.0], [0.0]).relative == 0.0
    assert sums([1e-30], [0.0]).relative == math.inf
    assert sums([math.nan], [1.0]).relative == math.inf


def test_infinities_in_the_reference_are_left_out():
    assert sums([1.0, math.inf], [1.0, math.inf], finite=False).relative == 0.0


def test_places():
    got, expected = torch.tensor([[1.0, 2.0], [3.0, 9.0]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert worst_element(got, expected.double(), "out") == "out[1, 1]: got 9, expected 4"


@given(st.lists(st.integers(1, 5), max_size=4), st.data())
def test_index_of_inverts_flattening(shape, data):
    flat = data.draw(st.integers(0, math.prod(shape) - 1))
    index = tuple(int(i) for i in index_of(flat, tuple(shape)).split(", ") if i)
    assert torch.arange(math.prod(shape)).reshape(shape)[index].item() == flat


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 10**7))
def test_the_bound_grows_with_eagers_error(a, b, reduction):
    low, high = sorted((a, b))
    assert bounds.bound(low, "float32", reduction) <= bounds.bound(high, "float32", reduction)
