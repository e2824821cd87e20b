"""Scaled, masked softmax over attention scores, in the KernelBench convention."""

import torch
from torch import nn


class Model(nn.Module):
    """``softmax(scores * scale + mask)`` over the keys."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.scale = head_dim**-0.5

    def forward(self, scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.softmax(scores * self.scale + mask, dim=-1)


def get_inputs() -> list[torch.Tensor]:
    return [torch.randn(8, 12, 256, 256), torch.randn(8, 1, 256, 256)]


def get_init_inputs() -> list[int]:
    return [64]
