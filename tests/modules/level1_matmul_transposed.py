"""A product whose operands are both stored transposed."""

import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
m, k, n = (2048, 8192, 4096) if os.environ.get("MODULE_SIZES") == "real" else (70, 64, 40)


class Model(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.matmul(a.T, b.T)


def get_inputs():
    return [torch.randn(k, m), torch.randn(n, k)]


def get_init_inputs():
    return []
