"""A strided convolution in four groups."""

import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, channels, out_channels, height, width = (
    (64, 64, 128, 128, 128) if os.environ.get("MODULE_SIZES") == "real" else (2, 8, 12, 11, 14)
)


class Model(nn.Module):
    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 3, stride=2, padding=1, groups=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def get_inputs():
    return [torch.randn(batch_size, channels, height, width)]


def get_init_inputs():
    return [channels, out_channels]
