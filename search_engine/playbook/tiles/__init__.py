"""The one template of tiled contractions, in pieces that know nothing of each other.

``shape`` the numbers; ``places`` indices into operands; ``movers`` global to shared memory;
``registers`` and ``tensor_cores`` the inner product; ``finish`` the epilogue; ``kernel`` puts
them together.
"""
