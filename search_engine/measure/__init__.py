"""Times on a real GPU: a kernel beside eager and torch.compile, in one interleaved session."""
