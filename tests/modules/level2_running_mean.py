"""A module that changes a buffer of its own."""

import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, features = (4096, 16384) if os.environ.get("MODULE_SIZES") == "real" else (7, 300)


class Model(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.average.mul_(0.9).add_(x.mean(dim=0), alpha=0.1)
        return x - self.average


def get_inputs():
    return [torch.randn(batch_size, features)]


def get_init_inputs():
    return [features]
