"""Errors of one output against the reference: sums that pool over draws."""

from __future__ import annotations

import math

import torch
from attrs import define, field

from search_engine.verify.bounds import FLOAT64_SCALE, SMALL_ROW

_LEAST_FLOAT32 = torch.finfo(torch.float32).tiny


@define
class ErrorSums:
    """Squared error and squared norm of one output, in all and per row, over several draws.

    A row is a slice along the last dimension; an output of one dimension or none is one row.
    Elements where the reference is not finite are left out: those are compared by kind.
    """

    error: float = 0.0
    norm: float = 0.0
    _row_error: torch.Tensor | None = field(default=None, repr=False, alias="row_error")
    _row_norm: torch.Tensor | None = field(default=None, repr=False, alias="row_norm")

    @classmethod
    def of(cls, got: torch.Tensor, expected: torch.Tensor, *, finite: bool) -> ErrorSums:
        """One draw. ``expected`` is fp64, ``finite`` where it is so throughout."""
        difference = got.to(torch.float64, copy=True).sub_(expected)
        if not finite:
            where = torch.isfinite(expected)
            difference = torch.where(where, difference, 0.0)
            expected = torch.where(where, expected, 0.0)
        error, norm = _row_squares(difference), _row_squares(expected)
        return cls(float(error.sum()), float(norm.sum()), error, norm)

    @classmethod
    def from_float32(cls, narrow: torch.Tensor, exact: torch.Tensor) -> ErrorSums:
        """What ``narrow``, an answer in fp32, says of the error of the same module in fp64.

        Elements out of fp32's range are left out. A row that has lost all of its digits in
        fp32 says no more than that, so its error counts as its norm at most.
        """
        lost = ~torch.isfinite(narrow) | ((exact != 0) & (exact.abs() < _LEAST_FLOAT32))
        sums = cls.of(narrow, exact.masked_fill(lost, math.inf), finite=False)
        error, norm = sums._row_error, sums._row_norm
        assert error is not None
        assert norm is not None
        error = torch.minimum(error, norm) * FLOAT64_SCALE**2
        return cls(float(error.sum()), float(norm.sum()), error, norm)

    def add(self, other: ErrorSums) -> None:
        """Pool with the sums of another draw, rows by their index."""
        self.error += other.error
        self.norm += other.norm
        if self._row_error is None or self._row_norm is None:
            self._row_error, self._row_norm = other._row_error, other._row_norm
        elif other._row_error is not None and other._row_norm is not None:
            self._row_error = self._row_error + other._row_error
            self._row_norm = self._row_norm + other._row_norm

    @property
    def relative(self) -> float:
        """‖error‖ / ‖reference‖; infinite where the reference is zero and the output is not."""
        return _ratio(self.error, self.norm)

    @property
    def worst_row(self) -> float:
        """The largest relative error of a row."""
        if self._row_error is None or self._row_norm is None or not self._row_error.numel():
            return 0.0
        typical = float(self._row_norm.mean())
        floor = self._row_norm.clamp(min=SMALL_ROW**2 * typical)
        worst = torch.where(floor > 0, self._row_error / floor, self._row_error * math.inf)
        return math.sqrt(float(torch.nan_to_num(worst, nan=0.0, posinf=math.inf).max()))


def all_finite(tensor: torch.Tensor) -> bool:
    """Whether there is no NaN and no infinity; one pass, where ``isfinite`` takes several."""
    return math.isfinite(float(tensor.sum(dtype=torch.float64)))


def _row_squares(tensor: torch.Tensor) -> torch.Tensor:
    rows = tensor.reshape(1, -1) if tensor.dim() < 2 else tensor.flatten(0, -2)
    return torch.linalg.vector_norm(rows, dim=1).square_()


def _ratio(error: float, norm: float) -> float:
    if math.isnan(error):
        return math.inf
    if norm == 0.0:
        return 0.0 if error == 0.0 else math.inf
    return math.sqrt(error / norm)


def worst_element(got: torch.Tensor, expected: torch.Tensor, name: str) -> str:
    """``out[3, 17]: got 0.5, expected 0.25`` for the element that is furthest off."""
    difference = (got.double() - expected.double()).abs()
    difference = torch.nan_to_num(difference, nan=math.inf, posinf=math.inf)
    return element(got, expected, name, int(difference.argmax()))


def element(got: torch.Tensor, expected: torch.Tensor, name: str, flat: int) -> str:
    """The same for the element at that row-major position."""
    values = got.reshape(-1)[flat].item(), expected.reshape(-1)[flat].item()
    return f"{name}[{index_of(flat, tuple(got.shape))}]: got {values[0]:.9g}, " + (
        f"expected {values[1]:.9g}"
    )


def index_of(flat: int, shape: tuple[int, ...]) -> str:
    """Row-major position as an index: ``3, 17``."""
    index = []
    for size in reversed(shape):
        index.append(flat % size)
        flat //= size
    return ", ".join(str(i) for i in reversed(index))
