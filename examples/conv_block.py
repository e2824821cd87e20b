"""A convolution block as people write it."""

import torch
from torch import nn


# kernel-lsp: ConvBlock(3, 64), image=float32[16, 3, 128, 128]
class ConvBlock(nn.Module):
    """Convolution, ReLU, max pooling."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 7, stride=2, padding=3)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.pool(torch.relu(self.conv(image)))
