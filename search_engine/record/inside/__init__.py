"""The recorder, in the user's own process.

It is started as a file (``__main__.py``) under whatever Python the user's command names, so
it needs nothing but the standard library and the torch that the script itself imports, and
its imports are relative: ``search_engine`` may not be importable there.
"""
