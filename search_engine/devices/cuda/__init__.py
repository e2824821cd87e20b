"""The cuda device: kernels compiled by NVRTC and run on a GPU, on torch's memory and stream."""
