"""How code in a worker says that its process must not be used any more. Free of torch."""

from __future__ import annotations

_reasons: list[str] = []


def retire(reason: str) -> None:
    """Ask that this process be replaced after the call under way, whatever the call returns.

    For what no exception can be trusted to tell: a caller may catch it and go on, and the
    next candidate would pay. Outside a worker it does nothing.
    """
    _reasons.append(reason)


def retired() -> str | None:
    """The first reason that was given, None where nobody asked."""
    return _reasons[0] if _reasons else None
