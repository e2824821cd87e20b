"""A batch of matrix products."""

import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, m, k, n = (
    (128, 256, 1024, 512) if os.environ.get("MODULE_SIZES") == "real" else (3, 40, 65, 36)
)


class Model(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.bmm(a, b)


def get_inputs():
    return [torch.randn(batch_size, m, k), torch.randn(batch_size, k, n)]


def get_init_inputs():
    return []
