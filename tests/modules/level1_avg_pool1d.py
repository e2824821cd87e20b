"""Average pooling of sequences, the padding counted."""

import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, channels, length = (
    (32, 128, 16384) if os.environ.get("MODULE_SIZES") == "real" else (3, 5, 90)
)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool1d(8, stride=1, padding=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(x)


def get_inputs():
    return [torch.randn(batch_size, channels, length)]


def get_init_inputs():
    return []
