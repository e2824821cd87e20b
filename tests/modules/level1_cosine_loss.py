"""The mean distance in angle."""

import os

import torch
import torch.nn.functional as F
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, features = (16384, 4096) if os.environ.get("MODULE_SIZES") == "real" else (9, 200)


class Model(nn.Module):
    def forward(self, predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.mean(1 - F.cosine_similarity(predictions, targets, dim=1))


def get_inputs():
    return [torch.randn(batch_size, features), torch.randn(batch_size, features)]


def get_init_inputs():
    return []
