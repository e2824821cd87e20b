"""A diagonal matrix, given by its diagonal, times a matrix."""

import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
n, m = (4096, 4096) if os.environ.get("MODULE_SIZES") == "real" else (40, 24)


class Model(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.diag(a) @ b


def get_inputs():
    return [torch.randn(n), torch.randn(n, m)]


def get_init_inputs():
    return []
