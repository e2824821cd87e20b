"""Kullback-Leibler divergence between two distributions."""

import os

import torch
import torch.nn.functional as F
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, features = (16384, 4096) if os.environ.get("MODULE_SIZES") == "real" else (9, 200)


class Model(nn.Module):
    def forward(self, predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.kl_div(torch.log(predictions), targets, reduction="batchmean")


def get_inputs():
    first = torch.rand(batch_size, features).softmax(dim=-1)
    second = torch.rand(batch_size, features).softmax(dim=-1)
    return [first, second]


def get_init_inputs():
    return []
