"""Inline PTX of kernels, translated to calls of the cpu device's runtime."""
