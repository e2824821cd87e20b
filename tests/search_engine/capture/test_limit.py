from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_engine.capture.limit import Work, limit
from search_engine.hardware import H200

MIB = 2**20


def test_a_large_copy_is_bound_by_dram():
    bound = limit(Work(read_bytes=10**9, written_bytes=10**9), H200)
    charged = 2 * 10**9 - H200.l2_bytes
    assert bound.seconds == pytest.approx(charged / H200.dram_bytes_per_second)
    assert bound.reason.startswith("DRAM: ")


def test_outputs_that_stay_in_l2_cost_no_dram():
    small = limit(Work(read_bytes=MIB, written_bytes=MIB), H200)
    assert small.seconds == pytest.approx(MIB / H200.dram_bytes_per_second)


def test_fp32_products_count_as_three_tf32_products():
    flops = 2 * 4096**3
    bound = limit(Work(3 * 4096**2 * 4, 4096**2 * 4, {"float32": flops}), H200)
    assert bound.seconds == pytest.approx(0.83e-3, rel=0.01)  # as measured and worked out
    assert "three TF32 products" in bound.reason
    assert limit(Work(0, 0, {"tf32": flops}), H200).seconds == pytest.approx(bound.seconds / 3)


def test_units_work_side_by_side():
    work = Work(0, 0, {"bfloat16": 10**12}, other_flops=10**9)
    assert limit(work, H200).seconds == pytest.approx(1e12 / H200.half_flops)


counts = st.integers(0, 10**15)


@given(counts, counts, counts, counts, counts)
def test_more_work_never_takes_less_time(read, written, products, other, more):
    before = limit(Work(read, written, {"float32": products}, other), H200).seconds
    for after in (
        Work(read + more, written, {"float32": products}, other),
        Work(read, written + more, {"float32": products}, other),
        Work(read, written, {"float32": products + more}, other),
        Work(read, written, {"float32": products}, other + more),
    ):
        assert limit(after, H200).seconds >= before
