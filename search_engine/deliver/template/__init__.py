"""What a delivered Python file consists of, as real modules.

``render`` joins them into one file: ``verified`` with the task's own constants, then the
parts of ``guard``, ``launch``, ``forward`` and of the source hashing that they use.
"""
