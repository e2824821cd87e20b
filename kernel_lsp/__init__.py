"""kernel-lsp: a language server that makes PyTorch modules faster."""

__version__ = "0.1.0"
