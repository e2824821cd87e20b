"""What a person tunes of a search: one class, with its docs and defaults."""

from __future__ import annotations

from attrs import field, frozen


def _doc(text: str) -> dict[str, str]:
    return {"doc": text}


@frozen
class SearchSettings:
    """Settings of one search; stored with the run."""

    rounds: int = field(default=5, metadata=_doc("Rounds of ideas at most."))
    ideas: int = field(default=4, metadata=_doc("Ideas per round."))
    branches: int = field(default=3, metadata=_doc("Kernels (branches) per idea."))
    seeds: int = field(default=3, metadata=_doc("Verified kernels that seed the next round."))
    minutes: float = field(default=30.0, metadata=_doc("Wall time of a search, in minutes."))
    device: str = field(
        default="auto",
        metadata=_doc('What runs kernels: "cuda", "cuda:1", "cpu", or "auto" (a GPU if found).'),
    )
    target: str = field(
        default="h200",
        metadata=_doc(
            "GPU of the limit and the estimate where no GPU is at hand: a100-40gb, a100-80gb, "
            "b200, h100, h100-pcie, h200, l40s, rtx4090."
        ),
    )
    proposers: tuple[str, ...] = field(
        default=("playbook",), metadata=_doc("Where ideas come from, in turn.")
    )
    stop_at_limit: float = field(
        default=0.95, metadata=_doc("End when the best reaches this share of the limit.")
    )
    configurations: int = field(
        default=12, metadata=_doc("Configurations of a kernel's tune lines tried at most.")
    )
    sweep_seconds: float = field(
        default=60.0,
        metadata=_doc("Seconds that trying configurations of one kernel may take."),
    )
    import_timeout: float = field(
        default=60.0, metadata=_doc("Seconds the import of the user's file may take.")
    )
    kernel_timeout: float = field(
        default=30.0, metadata=_doc("Seconds one kernel may run before it counts as hung.")
    )
    cache_gigabytes: float = field(
        default=2.0,
        metadata=_doc(
            "Disk space of kernels built for this CPU, in GB: the least recently used go first."
        ),
    )
    unguarded: bool = field(
        default=False,
        metadata=_doc(
            "Run kernels that kernel-lsp did not write on this CPU even where the "
            "lock-down (seccomp) is not to be had."
        ),
    )
