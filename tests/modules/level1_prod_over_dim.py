"""The product over one dimension."""

import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, rows, columns = (
    (1024, 64, 1024) if os.environ.get("MODULE_SIZES") == "real" else (7, 12, 20)
)


class Model(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.prod(x, dim=self.dim)


def get_inputs():
    return [0.5 + torch.rand(batch_size, rows, columns)]


def get_init_inputs():
    return [1]
