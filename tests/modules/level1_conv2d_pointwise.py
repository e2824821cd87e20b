"""A 1 by 1 convolution of images."""

import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, channels, out_channels, height, width = (
    (64, 32, 64, 128, 128) if os.environ.get("MODULE_SIZES") == "real" else (2, 5, 8, 11, 14)
)


class Model(nn.Module):
    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def get_inputs():
    return [torch.randn(batch_size, channels, height, width)]


def get_init_inputs():
    return [channels, out_channels]
