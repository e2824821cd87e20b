"""A dilated, strided convolution of sequences."""

import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, channels, out_channels, length = (
    (32, 64, 128, 16384) if os.environ.get("MODULE_SIZES") == "real" else (2, 5, 7, 60)
)


class Model(nn.Module):
    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, out_channels, 3, stride=2, dilation=4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def get_inputs():
    return [torch.randn(batch_size, channels, length)]


def get_init_inputs():
    return [channels, out_channels]
