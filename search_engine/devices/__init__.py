"""Devices: what compiles and runs a kernel. ``cuda`` is a real GPU, ``cpu`` SIMT on the CPU."""
