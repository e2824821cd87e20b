"""A linear layer, GELU, and the input added."""

import os

import torch
import torch.nn.functional as F
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, features = (4096, 4096) if os.environ.get("MODULE_SIZES") == "real" else (20, 64)


class Model(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + F.gelu(self.linear(x))


def get_inputs():
    return [torch.randn(batch_size, features)]


def get_init_inputs():
    return [features]
