"""The triplet margin loss."""

import os

import torch
from torch import nn

# What fills a GPU, or little enough for the test suite.
batch_size, features = (8192, 4096) if os.environ.get("MODULE_SIZES") == "real" else (9, 130)


class Model(nn.Module):
    def __init__(self, margin: float) -> None:
        super().__init__()
        self.loss = nn.TripletMarginLoss(margin=margin)

    def forward(
        self, anchor: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
    ) -> torch.Tensor:
        return self.loss(anchor, positive, negative)


def get_inputs():
    return [torch.randn(batch_size, features) for _ in range(3)]


def get_init_inputs():
    return [1.0]
