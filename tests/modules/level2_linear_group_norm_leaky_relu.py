"""A linear layer, GroupNorm over its features, leaky ReLU, and the sum with itself."""

import os

import torch
import torch.nn.functional as F
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, in_features, out_features = (
    (4096, 4096, 4096) if os.environ.get("MODULE_SIZES") == "real" else (20, 64, 48)
)


class Model(nn.Module):
    def __init__(self, in_features: int, out_features: int, groups: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.norm = nn.GroupNorm(groups, out_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.leaky_relu(self.norm(self.linear(x)), 0.01)
        return h + h


def get_inputs():
    return [torch.randn(batch_size, in_features)]


def get_init_inputs():
    return [in_features, out_features, 16]
