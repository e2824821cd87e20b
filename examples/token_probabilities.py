"""Soft-capped logits to token probabilities: five kernels in eager mode, one would do."""

import torch
from torch import nn


# kernel-lsp: TokenProbabilities(30.0, 0.8), logits=float32[128, 32000]
class TokenProbabilities(nn.Module):
    """``softmax(cap * tanh(logits / cap) / temperature)`` over the vocabulary, as in Gemma 2."""

    def __init__(self, cap: float, temperature: float) -> None:
        super().__init__()
        self.cap = cap
        self.temperature = temperature

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        capped = self.cap * torch.tanh(logits / self.cap)
        return torch.softmax(capped / self.temperature, dim=-1)
