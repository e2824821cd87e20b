"""Scaled dot-product attention, spelt out."""

import math
import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, heads, length, width = (
    (8, 16, 1024, 64) if os.environ.get("MODULE_SIZES") == "real" else (1, 2, 40, 32)
)


class Model(nn.Module):
    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        scores = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(q.size(-1))
        return torch.matmul(torch.softmax(scores, dim=-1), v)


def get_inputs():
    return [torch.randn(batch_size, heads, length, width) for _ in range(3)]


def get_init_inputs():
    return []
