"""RMSNorm over the channels of images, spelt out."""

import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, channels, height, width = (
    (16, 64, 256, 256) if os.environ.get("MODULE_SIZES") == "real" else (2, 12, 9, 10)
)


class Model(nn.Module):
    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / torch.sqrt(torch.mean(x**2, dim=1, keepdim=True) + self.eps)


def get_inputs():
    return [torch.randn(batch_size, channels, height, width)]


def get_init_inputs():
    return [1e-5]
