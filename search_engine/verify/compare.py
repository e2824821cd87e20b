"""One run of a kernel against the answers: what is plainly wrong, and what goes to the errors."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from search_engine.verdict import Finding
from search_engine.verify.errors import all_finite, element, index_of
from search_engine.verify.indices import as_right
from search_engine.verify.reference import Answers


def plain_findings(
    outputs: Mapping[str, torch.Tensor], answers: Answers, what: str
) -> list[Finding]:
    """Findings that need no bound: missing or misshapen outputs, NaN, wrong integers.

    ``what`` names the inputs for the message: "normal inputs".
    """
    found = []
    for name, exact in answers.exact.items():
        eager = answers.eager[name]
        got = outputs.get(name)
        if got is None or got.shape != eager.shape or got.dtype != eager.dtype:
            is_ = "missing" if got is None else f"{got.dtype} {list(got.shape)}"
            found.append(
                Finding("output", f"{name} is {is_}, not {eager.dtype} {list(eager.shape)}")
            )
        elif got.is_floating_point():
            if answers.finite[name] and all_finite(got):
                continue
            finding = _unwritten(name, got, answers, what) or _kinds(name, got, eager, exact, what)
            found += [finding] if finding else []
        else:
            finding = _integers(name, got, answers, what)
            found += [finding] if finding else []
    return found


def _unwritten(name: str, got: torch.Tensor, answers: Answers, what: str) -> Finding | None:
    """NaN where a number belongs: memory is NaN before the launch, so it was never written."""
    wrong = got.isnan() & ~answers.exact[name].isnan() & ~answers.eager[name].isnan()
    count = int(wrong.sum())
    if not count:
        return None
    flat = int(wrong.reshape(-1).int().argmax())
    share = count / got.numel()
    return Finding(
        "unwritten",
        f"{count} of {got.numel()} elements of {name} ({share:.3g} of all) are NaN on {what}: "
        "never written, or computed from memory that was not",
        place=f"{name}[{index_of(flat, tuple(got.shape))}]",
    )


def _kinds(
    name: str, got: torch.Tensor, eager: torch.Tensor, exact: torch.Tensor, what: str
) -> Finding | None:
    """NaN and infinities must stand where eager has them, as far as fp64 agrees with eager."""
    wrong = (
        (torch.isnan(eager) & torch.isnan(exact) & ~torch.isnan(got))
        | (torch.isposinf(eager) & torch.isposinf(exact) & ~torch.isposinf(got))
        | (torch.isneginf(eager) & torch.isneginf(exact) & ~torch.isneginf(got))
        | (torch.isfinite(eager) & torch.isfinite(exact) & ~torch.isfinite(got))
    )
    if not bool(wrong.any()):
        return None
    flat = int(wrong.reshape(-1).int().argmax())
    return Finding(
        "nonfinite",
        f"{int(wrong.sum())} elements of {name} are not of eager's kind (a number, NaN or an "
        f"infinity) on {what}",
        place=element(got, eager, name, flat),
    )


def _integers(name: str, got: torch.Tensor, answers: Answers, what: str) -> Finding | None:
    """Integers and bools are exact; where fp64 differs from eager (a tie), either will do.

    So will an index whose value lies within rounding of eager's.
    """
    eager, exact = answers.eager[name], answers.exact[name]
    wrong = (got != eager) & (got != exact.to(eager.dtype))
    if name in answers.places and bool(wrong.any()):
        wrong &= ~as_right(got, eager, *answers.places[name])
    count = int(wrong.sum())
    if not count:
        return None
    flat = int(wrong.reshape(-1).int().argmax())
    return Finding(
        "accuracy",
        f"{count} of {got.numel()} integers of {name} are wrong on {what}",
        place=element(got, eager, name, flat),
    )


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal bit for bit, NaN included."""
    if not a.is_floating_point():
        return torch.equal(a, b)
    width = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    return torch.equal(a.view(width), b.view(width))
