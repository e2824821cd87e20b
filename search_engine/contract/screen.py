"""Device code only: what a kernel's source must not hold, with line and reason.

It reads tokens, so comments, strings, continued lines and digraphs deceive it no more
than they do a compiler; macros can. It is there for clear messages before anything is
compiled. The boundary itself is elsewhere: the compiler's own list of opened files, and
the worker that is locked down before generated code is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from search_engine.contract.declarations import (
    DEEPEST,
    Declaration,
    declarations,
    too_deep,
)
from search_engine.contract.tokens import Token, code, directives, tokenize
from search_engine.verdict import Finding

# Headers that NVIDIA ships with CUDA and that hold device code.
_HEADERS = frozenset({
    "cooperative_groups.h", "cuda.h", "cuda_awbarrier_primitives.h", "cuda_bf16.h", "cuda_fp16.h",
    "cuda_fp4.h", "cuda_fp6.h", "cuda_fp8.h", "cuda_pipeline.h", "cuda_pipeline_primitives.h",
    "cuda_runtime.h", "device_launch_parameters.h", "math_constants.h", "mma.h",
    "vector_functions.h", "vector_types.h", "cuda/annotated_ptr", "cuda/atomic", "cuda/barrier",
    "cuda/cmath", "cuda/functional", "cuda/pipeline", "cuda/ptx", "cuda/semaphore", "cuda/latch",
})  # fmt: skip
_HEADER_FOLDERS = re.compile(r"(cooperative_groups/[\w./]+\.h|(cuda/std|cub|nv)/[\w./]+)\Z")

_DIRECTIVES = frozenset({
    "include", "define", "undef", "if", "ifdef", "ifndef", "elif", "else", "endif", "pragma",
    "error", "warning",
})  # fmt: skip
_PRAGMAS = re.compile(r"(unroll|nounroll|once|nv_\w+|diag_\w+)\b")
_PROBES = frozenset({
    "__has_include", "__has_include_next", "__has_embed", "__FILE__", "__TIMESTAMP__", "__DATE__",
    "__TIME__", "_Pragma", "__pragma",
})  # fmt: skip
_CONSTANT = frozenset({"const", "constexpr", "__constant__"})


def screen(source: str) -> list[Finding]:
    """Findings on everything in ``source`` that is no device code."""
    tokens = tokenize(source)
    findings = [*_characters(source), *_directives(tokens), *_words(tokens)]
    deep = too_deep(tokens)
    if deep is not None:
        findings.append(_finding("host-code", f"brackets nest more than {DEEPEST} deep", deep))
    for declaration in declarations(source):
        findings += _declaration(declaration)
    return findings


def _finding(check: str, message: str, token: Token) -> Finding:
    return Finding(check, message, token.line, token.column)


def _characters(source: str) -> Iterator[Finding]:
    for line, text in enumerate(source.split("\n"), 1):
        if "\0" in text:
            yield Finding("host-code", "a NUL character", line, text.index("\0") + 1)
        trigraph = re.search(r"\?\?[=/'()!<>-]", text)
        if trigraph:
            message = f"the trigraph `{trigraph.group()}`: compilers disagree on it"
            yield Finding("host-code", message, line, trigraph.start() + 1)
        direction = re.search("[\u202a-\u202e\u2066-\u2069]", text)
        if direction:
            message = "a character that changes the direction of text: code reads other than it is"
            yield Finding("host-code", message, line, direction.start() + 1)


def _directives(tokens: Sequence[Token]) -> Iterator[Finding]:
    for line in directives(tokens):
        if len(line) < 2:
            continue
        name = line[1].text
        if name not in _DIRECTIVES:
            yield _finding("directive", f"`#{name}` is not possible in a kernel", line[0])
        elif name == "include":
            yield from _include(line)
        elif name == "pragma":
            text = " ".join(token.text for token in line[2:])
            if not _PRAGMAS.match(text):
                message = f"`#pragma {text[:40]}`: `#pragma unroll` is possible, this is not"
                yield _finding("directive", message, line[0])


def _include(line: Sequence[Token]) -> Iterator[Finding]:
    name = "".join(token.text for token in line[2:])
    header = name[1:-1]
    if not (name.startswith("<") and name.endswith(">")) and not (
        len(line) == 3 and line[2].kind == "string"
    ):
        message = f"`#include {name[:60]}`: write the header's name in angle brackets"
        yield _finding("include", message, line[0])
    elif ".." in header or not (header in _HEADERS or _HEADER_FOLDERS.match(header)):
        message = (
            f"`{header[:60]}` is none of CUDA's own device headers (cuda_fp16.h, mma.h, "
            "cooperative_groups.h, cuda/std/…); sizes, math and vector types need no header"
        )
        yield _finding("include", message, line[0])


def _words(tokens: Sequence[Token]) -> Iterator[Finding]:
    for token in tokens:
        if token.kind == "identifier" and token.text in _PROBES:
            message = f"`{token.text}` lets a kernel depend on the machine that compiles it"
            yield _finding("directive", message, token)
    compiled = code(tokens)
    for left, right in pairwise(compiled):
        together = (left.line, left.column + len(left.text)) == (right.line, right.column)
        if left.text == "<<" and right.text == "<" and together:
            message = "a launch inside code: launches stand in `// launch:` lines"
            yield _finding("host-code", message, left)


def _declaration(declaration: Declaration) -> Iterator[Finding]:
    if not declaration.head:
        return
    first, words = declaration.head[0], declaration.words
    if declaration.function is not None:
        yield from _function(declaration, declaration.function)
    elif first.text in ("asm", "__asm__", "__asm"):
        yield _finding("host-code", "`asm` outside a device function", first)
    elif not words & {"using", "typedef", "static_assert", "friend", "namespace"}:
        yield from _variable(declaration, first)


def _function(declaration: Declaration, name: Token) -> Iterator[Finding]:
    kind = declaration.annotations
    if not kind & {"__global__", "__device__"}:
        message = (
            f"`{name.text}` is host code: write `__device__` or `__global__` before it"
            if "__host__" not in kind
            else f"`{name.text}` is `__host__` code: a kernel file has device code only"
        )
        yield _finding("host-code", message, name)
    if "__global__" in kind:
        if declaration.template:
            message = (
                f'`{name.text}` is a template: launch a plain `extern "C" __global__` function '
                "that calls a `__device__` template"
            )
            yield _finding("kernel-name", message, name)
        elif not declaration.extern_c:
            message = f'write `extern "C"` before `__global__` so that `{name.text}` keeps its name'
            yield _finding("kernel-name", message, name)
    yield from _statics(declaration)


def _statics(declaration: Declaration) -> Iterator[Finding]:
    """Function-scope variables that live on from launch to launch."""
    body = declaration.body or ()
    for index, token in enumerate(body):
        if token.text == "static":
            following = {t.text for t in body[index + 1 : index + 4]}
            if not following & (_CONSTANT | {"__shared__"}):
                yield _state(token)


def _state(token: Token) -> Finding:
    return _finding(
        "device-state",
        "a variable that keeps its value between launches: use a `// scratch:` buffer "
        "(with `zeroed` for counters)",
        token,
    )


def _variable(declaration: Declaration, first: Token) -> Iterator[Finding]:
    words = declaration.words
    if words & {"struct", "class", "union", "enum"} or declaration.scope == "class":
        if "static" in words and not words & _CONSTANT:
            yield _state(first)
        return
    if "__managed__" in words:
        yield _finding("host-code", "`__managed__` memory is the host's too", first)
    elif "__shared__" in words or words & _CONSTANT:
        return
    elif "__device__" in words:
        yield _state(first)
    else:
        message = "a variable of the host: only `constexpr` and `__constant__` ones are possible"
        yield _finding("host-code", message, first)
