"""A tall matrix times a wide one: the result is far larger than both."""

import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
m, k = (8192, 64) if os.environ.get("MODULE_SIZES") == "real" else (130, 8)


class Model(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.matmul(a, b)


def get_inputs():
    return [torch.randn(m, k), torch.randn(k, m)]


def get_init_inputs():
    return []
