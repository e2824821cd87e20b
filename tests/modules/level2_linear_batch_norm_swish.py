"""A linear layer, BatchNorm with running statistics, a learned shift, a division, Swish."""

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
        self.norm = nn.BatchNorm1d(out_features)
        self.shift = nn.Parameter(torch.randn(1))
        self.divide = 2.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = (self.norm(self.linear(x)) + self.shift) / self.divide
        return h * torch.sigmoid(h)


def get_inputs():
    return [torch.randn(batch_size, in_features)]


def get_init_inputs():
    return [in_features, out_features]
