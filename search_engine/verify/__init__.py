"""Whether a kernel computes what its module computes."""
