"""The comment to insert where nothing says what a class is run on. Free of torch.

It is filled in as far as ``__init__`` and ``forward`` tell; ``?`` stands for the rest.
"""

from __future__ import annotations

import ast
import re
import textwrap

from search_engine.capture import classes
from search_engine.capture.comment import MARK, inputs_known
from search_engine.source import parse_or_none

_INDEX_NAMES = re.compile(r"(^|_)(ids?|idx|index|indices|tokens?|labels?|targets?|positions?)$")
_MASK_NAMES = re.compile(r"mask$")
_SPATIAL = re.compile(
    r"(?:Conv|ConvTranspose|BatchNorm|InstanceNorm|MaxPool|AvgPool|Dropout)([123])d"
)
_DTYPES = {"LongTensor": "int64", "IntTensor": "int32", "BoolTensor": "bool"}
_DTYPES |= {"HalfTensor": "float16", "DoubleTensor": "float64"}


def skeleton(text: str, qualname: str) -> str | None:
    """The comment line, with the class's indentation and no newline.

    None where the class is not in the text or its inputs are known already. The text
    may have syntax errors elsewhere.
    """
    site = classes.find(text, qualname)
    if site is None or inputs_known(text, qualname):
        return None
    body = _body(text, site)
    init, forward = _signature(body, "__init__"), _signature(body, "forward")
    rank = _rank(body)
    name = qualname.rsplit(".", 1)[-1]
    items = [f"{name}({', '.join(_constructor(init))})", *_inputs(forward, rank)]
    return f"{site.indent}# {MARK} {', '.join(items)}"


def _body(text: str, site: classes.ClassSite) -> str:
    """The class statement's lines, dedented."""
    lines = classes.source_lines(text)
    width = len(site.indent.expandtabs(8))
    end = site.line + 1
    while end < len(lines) and not _leaves(lines[end].expandtabs(8), width):
        end += 1
    return textwrap.dedent("\n".join(lines[site.line : end]))


def _leaves(line: str, width: int) -> bool:
    """Whether a line stands outside a block that was opened at that indentation."""
    bare = line.lstrip()
    return bool(bare) and len(line) - len(bare) <= width and bare[0] not in ")]}#"


def _signature(body: str, method: str) -> ast.arguments | None:
    """The arguments of ``def method`` without ``self``; None where there is none to read."""
    match = re.search(rf"^[ \t]+(?:async[ \t]+)?def[ \t]+{method}[ \t]*\(", body, re.MULTILINE)
    if match is None:
        return None
    depth = 0
    for index in range(match.end() - 1, len(body)):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(body[index], 0)
        if depth == 0:
            header = f"def {method}{body[match.end() - 1 : index + 1]}: pass"
            tree = parse_or_none(header)
            if tree is None or not isinstance(tree.body[0], ast.FunctionDef):
                return None
            arguments = tree.body[0].args
            (arguments.posonlyargs or arguments.args)[:1] = []
            return arguments
    return None


def _parameters(arguments: ast.arguments) -> list[tuple[ast.arg, ast.expr | None]]:
    """Each parameter with its default; ``*args`` and ``**kwargs`` left out."""
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(arguments.defaults))
    defaults += arguments.defaults
    pairs = list(zip(plain, defaults, strict=False))
    return pairs + list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return False
    return True


def _constructor(arguments: ast.arguments | None) -> list[str]:
    if arguments is None:
        return []
    written = []
    for parameter, default in _parameters(arguments):
        if default is None:
            written.append(f"{parameter.arg}=?")
        elif _is_literal(default):
            written.append(f"{parameter.arg}={ast.unparse(default)}")
    return written


def _inputs(arguments: ast.arguments | None, rank: int | None) -> list[str]:
    if arguments is None:
        return ["x=float32[?]"]
    written = []
    for parameter, default in _parameters(arguments):
        annotation = "" if parameter.annotation is None else ast.unparse(parameter.annotation)
        kind = annotation.rsplit(".", 1)[-1]
        if default is not None:
            if _is_literal(default) and ast.literal_eval(default) is not None:
                written.append(f"{parameter.arg}={ast.unparse(default)}")
        elif kind in ("int", "float", "bool", "str"):
            written.append(f"{parameter.arg}=?")
        else:
            written.append(f"{parameter.arg}={_tensor(parameter.arg, kind, rank)}")
    return written


def _tensor(name: str, kind: str, rank: int | None) -> str:
    if kind in _DTYPES:
        return f"{_DTYPES[kind]}[?]"
    if _INDEX_NAMES.search(name):
        return "int64[?] in 0..?"
    if _MASK_NAMES.search(name):
        return "bool[?]"
    return f"float32[{', '.join(['?'] * (rank or 2))}]"


def _rank(body: str) -> int | None:
    """The inputs' rank where layers with a spatial rank tell it: ``Conv2d`` means four."""
    ranks = {int(digit) + 2 for digit in _SPATIAL.findall(body)}
    return ranks.pop() if len(ranks) == 1 else None
