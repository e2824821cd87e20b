"""Which verified kernels the next round starts from: the fastest, and different ones."""

from __future__ import annotations

from search_engine.proposers._base import Seed
from search_engine.store.records import Run


def pick(run: Run, count: int) -> tuple[Seed, ...]:
    """At most ``count`` seeds from the bank, the fastest first.

    The fastest kernel of all comes first, then the fastest of each other category, then
    whatever is fast: a bank that holds only variants of one idea has nowhere to go
    (the published method keeps "the top-performing, most diverse" kernels). Kernels
    without a time and copies of a chosen one are left out.
    """
    ideas = {record.id: record.idea for record in run.ideas}
    bank = [
        Seed(kernel.id, kernel.source, ideas[kernel.idea_id], kernel.seconds)
        for kernel in run.accepted_kernels
        if kernel.seconds is not None
    ]
    fastest_of: dict[str, Seed] = {}
    for seed in bank:
        fastest_of.setdefault(seed.idea.category, seed)
    chosen: dict[str, Seed] = {}
    for seed in [*fastest_of.values(), *bank]:
        if len(chosen) < count:
            chosen.setdefault(seed.source, seed)
    return tuple(sorted(chosen.values(), key=lambda seed: seed.seconds))
