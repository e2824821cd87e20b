"""GELU in its tanh form, spelt out as papers print it."""

import math
import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, features = (4096, 16384) if os.environ.get("MODULE_SIZES") == "real" else (7, 300)


class Model(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))
        return 0.5 * x * (1.0 + torch.tanh(inner))


def get_inputs():
    return [torch.randn(batch_size, features)]


def get_init_inputs():
    return []
