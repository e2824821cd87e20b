"""The search engine: task → ideas → kernels → verdicts → measurements → delivery.

Importing this package imports nothing else, so that the language server can use
its torch-free parts (the store, the task and kernel types, the source edits).
"""
