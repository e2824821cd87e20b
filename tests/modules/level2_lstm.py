"""A recurrent network: a chain of steps that each need the last."""

import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, length, width = (
    (16, 256, 128) if os.environ.get("MODULE_SIZES") == "real" else (2, 5, 8)
)


class Model(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(x)[0]


def get_inputs():
    return [torch.randn(batch_size, length, width)]


def get_init_inputs():
    return [width]
