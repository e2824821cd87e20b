"""The running sum of the elements that a mask lets through."""

import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, length = (8192, 8192) if os.environ.get("MODULE_SIZES") == "real" else (5, 300)


class Model(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.cumsum(x * mask, dim=self.dim)


def get_inputs():
    return [torch.randn(batch_size, length), torch.rand(batch_size, length) > 0.5]


def get_init_inputs():
    return [1]
