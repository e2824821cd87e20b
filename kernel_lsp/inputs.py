"""Whether a class's inputs are known, without parsing the whole file.

``capture.comment`` and ``capture.skeleton`` read a text with the class in it. Here they
get an excerpt: the class with the comments above it, and stubs for the only other things
in a file that they look at.
"""

from __future__ import annotations

import re

from kernel_lsp.documents import View
from kernel_lsp.modules import ModuleClass

_GET_INPUTS = re.compile(r"^(?:def[ \t]+get_inputs\b|get_inputs[ \t]*=)", re.MULTILINE)
_MODEL = re.compile(r"^class[ \t]+Model\b", re.MULTILINE)


def excerpt(view: View, module: ModuleClass) -> str:
    """The part of a file that decides on the inputs of one class."""
    outer = view.modules.get(module.qualname.partition(".")[0])
    if outer is None:  # nested in a class that is no module: rare enough for the whole file
        return view.text
    lines = view.lines
    start = outer.start
    while start > 0 and (lines[start - 1].lstrip().startswith("#") or not lines[start - 1].strip()):
        start -= 1
    parts = ["".join(lines[start : outer.end])]
    if _GET_INPUTS.search(view.text):
        parts.append("def get_inputs(): ...")
    if outer.qualname != "Model" and _MODEL.search(view.text):
        parts.append("class Model: ...")
    return "\n".join(parts) + "\n"


def inputs_known(view: View, module: ModuleClass) -> bool:
    """Whether ``get_inputs()`` or a comment says what the class is run on."""
    from search_engine.capture.comment import inputs_known as known

    return known(excerpt(view, module), module.qualname)


def skeleton(view: View, module: ModuleClass, description: str = "") -> str | None:
    """The comment line to insert above the class, None where the inputs are known.

    ``description`` is what it says where that is known from elsewhere.
    """
    from search_engine.capture.comment import MARK
    from search_engine.capture.skeleton import skeleton as line

    found = line(excerpt(view, module), module.qualname)
    if found is None or not description:
        return found
    return f"{found.partition(MARK)[0]}{MARK} {description}"
