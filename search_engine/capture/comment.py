"""The comment that gives a module its inputs. Free of torch.

It stands above the class, one description per verified shape::

    # kernel-lsp: Net(512, bias=True), x=float32[16, 64, 256, 256], scale=0.5
    # kernel-lsp: x=float32[1, 64, 256, 256], scale=0.5
    class Net(nn.Module):

- The constructor call comes first. Later descriptions may leave it out, and a class
  without arguments needs none. Names in it are those of the file.
- A tensor is ``dtype[sizes]``. ``in low..high`` behind it bounds its values, both ends
  included: ``idx=int64[32] in 0..999``, ``p=float32[8] in 0..1``. Integers without
  bounds are drawn from 0..9.
- Everything else is a Python literal: ``scale=0.5``, ``causal=True``, ``mask=None``; or a
  list, tuple or dict of tensors and literals: ``xs=[float32[8], float32[8]]``.
- ``.half()``, ``.bfloat16()``, ``.double()`` or ``.to(torch.float16)`` may follow the call.
- A description goes on in the next comment line while a bracket is open or after a comma.
- ``?`` marks what the skeleton could not know; capture asks for it by line.
"""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any, TypeAlias

from attrs import frozen

from search_engine.capture import classes
from search_engine.errors import CaptureError
from search_engine.task import ITEM_BYTES

MARK = "kernel-lsp:"
_LINE = re.compile(r"^[ \t]*#[ \t]*kernel-lsp:(.*)$")
_COMMENT = re.compile(r"^[ \t]*#(.*)$")
_TENSOR = re.compile(
    r"^(?:torch\.)?([A-Za-z_]\w*)\s*\[([^\]]*)\]\s*(?:in\s+(\S+?)\s*\.\.\s*(\S+))?$", re.DOTALL
)
_CALL = re.compile(r"^[A-Za-z_][\w.]*\s*\(", re.DOTALL)
_NAMED = re.compile(r"^([A-Za-z_]\w*)\s*=(?!=)(.*)$", re.DOTALL)
_ALIASES = {"float": "float32", "double": "float64", "half": "float16", "long": "int64"}
_ALIASES |= {"int": "int32", "short": "int16", "byte": "uint8", "char": "int8"}


@frozen
class TensorInput:
    """A tensor of the comment; ``low`` and ``high`` bound its values, both included."""

    dtype: str
    shape: tuple[int, ...]
    low: float | None = None
    high: float | None = None


Value: TypeAlias = (
    "TensorInput | int | float | bool | str | tuple[Any, ...] | list[Any] | dict[Any, Any] | None"
)


@frozen
class Description:
    """One description. ``line`` is 1-based; ``call`` is the constructor call as written."""

    line: int
    call: str | None
    inputs: dict[str, Value]


def inputs_known(text: str, qualname: str) -> bool:
    """Whether ``get_inputs()`` or a comment says what the class is run on."""
    site = classes.find(text, qualname)
    if site is None:
        return False
    if _descriptions(classes.source_lines(text), site):
        return True
    return classes.has_function(text, "get_inputs") and owns_get_inputs(text, qualname)


def owns_get_inputs(text: str, qualname: str) -> bool:
    """Whether the file's ``get_inputs()`` speaks of that class: ``Model``, where there is one."""
    return qualname == "Model" or classes.find(text, "Model") is None


def parse_comment(text: str, qualname: str) -> tuple[Description, ...]:
    """The descriptions above the class, first the task's; empty where there is none.

    Raises CaptureError with the line and what was expected.
    """
    site = classes.find(text, qualname)
    if site is None:
        return ()
    found = _descriptions(classes.source_lines(text), site)
    return tuple(parse_description(line, body) for line, body in found)


def _descriptions(lines: list[str], site: classes.ClassSite) -> list[tuple[int, str]]:
    """(1-based line, text behind the mark) of each description above the class."""
    start = site.first
    while start > 0 and (_COMMENT.match(lines[start - 1]) or not lines[start - 1].strip()):
        start -= 1
    found: list[tuple[int, str]] = []
    going_on = False
    for number in range(start, site.first):
        marked = _LINE.match(lines[number])
        comment = _COMMENT.match(lines[number])
        if marked:
            found.append((number + 1, marked[1].strip()))
        elif going_on and comment:
            line, body = found[-1]
            found[-1] = (line, f"{body} {comment[1].strip()}")
        going_on = bool(found) and comment is not None and _is_open(found[-1][1])
    return found


def _is_open(body: str) -> bool:
    depth = sum(body.count(c) for c in "([{") - sum(body.count(c) for c in ")]}")
    return depth > 0 or body.rstrip().endswith(",")


def parse_description(line: int, body: str) -> Description:
    """The description in the text behind the mark. Raises CaptureError."""
    call: str | None = None
    inputs: dict[str, Value] = {}
    items = _split(body, line)
    if not items:
        raise CaptureError(f"Line {line}: write the inputs behind `# {MARK}`, x=float32[8, 64].")
    for position, item in enumerate(items):
        if "?" in _without_strings(item):
            raise CaptureError(
                f"Line {line}: replace the `?` in `{item}` by the real value, then try again."
            )
        named = _NAMED.match(item)
        if named:
            name, value = named[1], named[2].strip()
            if name in inputs:
                raise CaptureError(f"Line {line}: `{name}` is given twice.")
            inputs[name] = _value(line, name, value)
        elif position == 0 and _CALL.match(item):
            call = item
        else:
            raise CaptureError(
                f"Line {line}: expected `name=float32[sizes]` or `name=literal`, found `{item}`."
            )
    return Description(line, call, inputs)


def _split(body: str, line: int) -> list[str]:
    """The items between commas outside brackets and strings."""
    items: list[str] = []
    depth, start, quote = 0, 0, ""
    for index, char in enumerate(body):
        if quote:
            quote = "" if char == quote and body[index - 1] != "\\" else quote
        elif char in "'\"":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "," and depth == 0:
            items.append(body[start:index].strip())
            start = index + 1
        if depth < 0:
            raise CaptureError(f"Line {line}: `{char}` closes nothing (column {index + 1}).")
    if depth or quote:
        raise CaptureError(f"Line {line}: a bracket or a string is not closed.")
    items.append(body[start:].strip())
    return [item for item in items if item]


def _without_strings(item: str) -> str:
    return re.sub(r"'[^']*'|\"[^\"]*\"", "''", item)


def _value(line: int, name: str, value: str) -> Value:
    tensor = _TENSOR.match(value)
    if tensor:
        return _tensor(line, name, value, tensor)
    if value[:1] in ("[", "(", "{") and re.search(r"[A-Za-z_]\w*\s*\[", _without_strings(value)):
        return _container(line, name, value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes are the user's to see in their file
            literal = ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise CaptureError(
            f"Line {line}: `{name}={value}` is neither a tensor like float32[8, 64] nor a literal."
        ) from None
    return literal


def _container(line: int, name: str, value: str) -> Value:
    """A list, tuple or dict with tensors in it."""
    closing = {"[": "]", "(": ")", "{": "}"}[value[0]]
    inner = value[1:-1]
    items = _split(inner, line)
    if not value.endswith(closing):
        raise CaptureError(f"Line {line}: `{name}={value}` is not closed by `{closing}`.")
    if value[0] == "{":
        pairs = [item.partition(":") for item in items]
        return {_value(line, name, k.strip()): _value(line, name, v.strip()) for k, _, v in pairs}
    found = [_value(line, f"{name}.{index}", item) for index, item in enumerate(items)]
    if value[0] == "[" or (len(found) == 1 and not inner.rstrip().endswith(",")):
        return found if value[0] == "[" else found[0]
    return tuple(found)


def _tensor(line: int, name: str, value: str, match: re.Match[str]) -> TensorInput:
    dtype = _ALIASES.get(match[1], match[1])
    if dtype not in ITEM_BYTES:
        raise CaptureError(
            f"Line {line}: `{match[1]}` is no dtype for `{name}`: use {', '.join(ITEM_BYTES)}."
        )
    shape = tuple(_size(line, name, s) for s in match[2].split(",") if s.strip())
    low, high = (_bound(line, name, bound) for bound in (match[3], match[4]))
    if low is not None and high is not None and low > high:
        raise CaptureError(f"Line {line}: the bounds of `{name}` are the wrong way round.")
    return TensorInput(dtype, shape, low, high)


def _size(line: int, name: str, text: str) -> int:
    try:
        size = _arithmetic(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError):
        size = -1
    if size < 0:
        raise CaptureError(
            f"Line {line}: `{text.strip()}` in `{name}` is no size; write a whole number."
        )
    return size


def _arithmetic(node: ast.expr) -> int:
    """A size such as ``64 * 4`` or ``2 ** 20``."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.BinOp):
        left, right = _arithmetic(node.left), _arithmetic(node.right)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.FloorDiv):
            return left // right
        if isinstance(node.op, ast.Pow) and 0 <= right < 64:
            return int(left**right)
    raise ValueError(ast.dump(node))


def _bound(line: int, name: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise CaptureError(f"Line {line}: the bound `{text}` of `{name}` is no number.") from None
