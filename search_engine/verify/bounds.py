"""The line between rounding and cheating. Free of torch.

An error is ‖out − reference‖ / ‖reference‖ with the reference in fp64, pooled over the
draws of a distribution. A kernel passes while its error is at most

    bound = max(EAGER_FACTOR · eager's error, eps · √min(K, LONGEST_SUM) · FLOOR_FACTOR)

with K the longest reduction in the task: honest ways to order a sum differ by that much,
also where eager was lucky. Sums of fp16 and bf16 numbers are taken in fp32 by torch and by
any kernel worth having, so there the √K goes with the eps of fp32, and the result's own
dtype adds the one rounding at the end. The worst row may have WORST_ROW times the bound.

In fp64 eager is itself the reference. Its error there is told from the same module and draw
in fp32, times FLOAT64_SCALE; the reference's own error is added to the bound, at right
angles, since it is in the distance that is measured.

What honest kernels and evasions measure against this line is in docs/verification.md;
``benchmarks/accuracy_line.py`` prints it.
"""

from __future__ import annotations

import math

EAGER_FACTOR = 2.0
FLOOR_FACTOR = 0.25
LONGEST_SUM = 4096  # terms; longer sums are split by any kernel worth having
WORST_ROW = 4.0
# A row's error is taken relative to its own norm, or this share of the typical row's where
# it is smaller: a row that cancels to nearly nothing would otherwise judge its neighbours.
SMALL_ROW = 0.1
# Without an fp64 reference the kernel is compared with eager itself: the distance of two
# results that are each within the floor, and once more for luck.
EAGER_REFERENCE_FACTOR = 3.0

# One precision down from fp64: where fp32 has no answer (the module does not run in it, the
# values are out of its range), fp64 outputs may be so far over the floor. A thousand times:
# what inputs around 1000 cost any formula. One rounding in fp32 is still 16,000 times as much.
FLOAT64_ALLOWANCE = 1024.0

EPS = {
    "float64": 2.0**-52,
    "float32": 2.0**-23,
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
}
FLOAT64_SCALE = EPS["float64"] / EPS["float32"]


def floor(dtype: str, longest_reduction: int) -> float:
    """What an honest sum of that length may lose, given in ``dtype``, whatever eager does."""
    summed = min(EPS[dtype], EPS["float32"])
    terms = min(max(longest_reduction, 1), LONGEST_SUM)
    return FLOOR_FACTOR * max(EPS[dtype], summed * math.sqrt(terms))


def bound(eager_error: float, dtype: str, longest_reduction: int) -> float:
    """The largest error over the whole output that passes."""
    return max(EAGER_FACTOR * eager_error, floor(dtype, longest_reduction))


def bound_beside_eager(eager_error: float | None, longest_reduction: int) -> float:
    """The largest distance of a float64 output from eager's.

    ``eager_error`` is as told from fp32, None where that has no answer.
    """
    if eager_error is None:
        return FLOAT64_ALLOWANCE * floor("float64", longest_reduction)
    return math.hypot(bound(eager_error, "float64", longest_reduction), eager_error)


def worst_row_bound(bound: float, eager_worst_row: float) -> float:
    """The largest error in one row that passes.

    Where eager's own worst row is beyond the bound (rows of one element that nearly
    cancel), that is what the factor counts from.
    """
    return WORST_ROW * max(bound, eager_worst_row)
