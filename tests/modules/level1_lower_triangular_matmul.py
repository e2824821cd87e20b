"""The product of two lower triangular matrices."""

import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
n = 4096 if os.environ.get("MODULE_SIZES") == "real" else 64


class Model(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.tril(torch.matmul(a, b))


def get_inputs():
    return [torch.tril(torch.randn(n, n)), torch.tril(torch.randn(n, n))]


def get_init_inputs():
    return []
