"""Runs kernels on the CPU with SIMT semantics, finds their faults, estimates their time."""
