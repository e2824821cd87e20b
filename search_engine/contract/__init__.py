"""The kernel contract: CUDA-C device code plus launch, scratch and tune lines."""
