"""What kind of thought an idea is. Free of torch."""

from __future__ import annotations

from typing import Literal, TypeAlias

# The six categories of the published method (Stanford CRFM, May 2025).
Category: TypeAlias = Literal[
    "memory access",
    "asynchrony and latency hiding",
    "data type and precision",
    "compute and instruction",
    "parallelism and occupancy",
    "control flow and loops",
]
