"""A matrix times one column."""

import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
m, k = (2048, 65536) if os.environ.get("MODULE_SIZES") == "real" else (33, 900)


class Model(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.matmul(a, b)


def get_inputs():
    return [torch.randn(m, k), torch.randn(k, 1)]


def get_init_inputs():
    return []
