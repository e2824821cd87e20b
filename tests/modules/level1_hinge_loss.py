"""The hinge loss of signed targets."""

import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, features = (16384, 4096) if os.environ.get("MODULE_SIZES") == "real" else (9, 200)


class Model(nn.Module):
    def forward(self, predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.mean(torch.clamp(1 - predictions * targets, min=0))


def get_inputs():
    signs = torch.randint(0, 2, (batch_size, 1)).float() * 2 - 1
    return [torch.randn(batch_size, features), signs]


def get_init_inputs():
    return []
