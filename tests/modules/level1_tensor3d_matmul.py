"""A stack of rows times one matrix."""

import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, m, k, n = (
    (16, 1024, 2048, 768) if os.environ.get("MODULE_SIZES") == "real" else (2, 30, 64, 48)
)


class Model(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.matmul(a, b)


def get_inputs():
    return [torch.randn(batch_size, m, k), torch.randn(k, n)]


def get_init_inputs():
    return []
