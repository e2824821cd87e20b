"""The gated MLP of a transformer: modules of the user's own inside a module."""

import os

import torch
import torch.nn.functional as F
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, length, width, hidden = (
    (4, 1024, 1024, 2816) if os.environ.get("MODULE_SIZES") == "real" else (2, 9, 32, 40)
)


class Gated(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Model(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.mlp = Gated(width, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mlp(x)


def get_inputs():
    return [torch.randn(batch_size, length, width)]


def get_init_inputs():
    return [width, hidden]
