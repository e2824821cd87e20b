"""Max pooling of volumes."""

import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, channels, size = (4, 32, 96) if os.environ.get("MODULE_SIZES") == "real" else (2, 3, 10)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool3d(3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(x)


def get_inputs():
    return [torch.randn(batch_size, channels, size, size, size)]


def get_init_inputs():
    return []
