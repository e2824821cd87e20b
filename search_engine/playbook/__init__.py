"""The playbook: the built-in proposer's ideas, one file each, and what they share.

``program`` is what an idea reads: the task's graph as one loop over rows and columns.
``analyse`` makes it, ``operators`` knows the pointwise operators, ``emit`` turns its
expressions into CUDA-C, ``ideas`` holds the ideas. Free of torch.
"""
