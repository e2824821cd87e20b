"""A linear layer, a sigmoid, and the sum of every row."""

import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, in_features, out_features = (
    (4096, 4096, 4096) if os.environ.get("MODULE_SIZES") == "real" else (20, 64, 48)
)


class Model(nn.Module):
    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sum(torch.sigmoid(self.linear(x)), dim=1, keepdim=True)


def get_inputs():
    return [torch.randn(batch_size, in_features)]


def get_init_inputs():
    return [in_features, out_features]
