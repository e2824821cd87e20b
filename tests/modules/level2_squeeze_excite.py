"""Channels weighted by what a small network makes of their means."""

import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, channels, reduced, height, width = (
    (16, 64, 16, 256, 256) if os.environ.get("MODULE_SIZES") == "real" else (2, 8, 4, 9, 12)
)


class Model(nn.Module):
    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, reduced)
        self.excite = nn.Linear(reduced, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        means = x.mean(dim=(2, 3))
        weights = torch.sigmoid(self.excite(torch.relu(self.squeeze(means))))
        return x * weights[:, :, None, None]


def get_inputs():
    return [torch.randn(batch_size, channels, height, width)]


def get_init_inputs():
    return [channels, reduced]
