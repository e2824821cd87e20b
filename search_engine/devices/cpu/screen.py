"""What may not be compiled, judged on what the preprocessor opened and what it put out.

Text before preprocessing proves nothing: ``#define Q "/etc/passwd"`` with ``#include Q``
opens a file, and ``asm`` can be pasted together. The preprocessed text is what is compiled
afterwards, so what is judged is what runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import evolve

from search_engine.contract.tokens import Token, directives, tokenize
from search_engine.verdict import Finding

# Names that need hardware which is not modelled, with what they are.
_UNSUPPORTED = {
    "this_cluster": "thread block clusters", "cluster_group": "thread block clusters",
    "__cluster_dims__": "thread block clusters",
    "__clusterRelativeBlockRank": "thread block clusters",
    "tex1Dfetch": "textures", "tex1D": "textures", "tex2D": "textures", "tex3D": "textures",
    "cudaTextureObject_t": "textures", "cudaSurfaceObject_t": "surfaces",
    "CUtensorMap": "the tensor memory accelerator",
    "cp_async_bulk": "the tensor memory accelerator",
    "cudaGridDependencySynchronize": "programmatic dependent launch",
}  # fmt: skip
_HARMLESS_ATTRIBUTES = frozenset({
    "aligned", "packed", "always_inline", "noinline", "unused", "used", "pure", "const",
    "device", "global", "shared", "host", "may_alias", "maybe_unused", "nodiscard", "likely",
    "unlikely", "fallthrough",
})  # fmt: skip
_HARMLESS_BUILTINS = re.compile(
    r"__builtin_(expect|assume|assume_aligned|unreachable|memcpy|memset|inff?|nanf?|huge_valf?"
    r"|isnan|isinf|isfinite|signbit|popcount\w*|clz\w*|ctz\w*|ffs\w*|fmaf?|fabsf?|sqrtf?"
    r"|expf?|logf?|powf?|tanhf?|erff?|f?max|f?min|fmaxf|fminf|constant_p|bswap\d+|offsetof"
    r"|is_constant_evaluated)\Z"
)
_RESERVED = re.compile(r"(_*simt_\w*|SIMT_\w*|__tsan_\w*|__sanitizer_\w*|__wrap_\w*|_sub_I_\w*)\Z")

_MARKER = re.compile(r'# (\d+) "((?:[^"\\]|\\.)*)"((?: \d)*)\s*\Z')


def screen_source(source: str) -> list[Finding]:
    """What the device cannot run or reserves for itself, by the text as written."""
    findings = []
    tokens = tokenize(source)
    for words in directives(tokens):
        # Line markers would let a kernel's line pass for another file's below.
        if len(words) > 1 and (words[1].text == "line" or words[1].kind == "number"):
            message = "`#line` is not possible in a kernel"
            findings.append(Finding("directive", message, words[0].line, words[0].column))
    for token in tokens:
        if token.kind != "identifier":
            continue
        if token.text in _UNSUPPORTED:
            message = f"the cpu device cannot run {_UNSUPPORTED[token.text]} (`{token.text}`)"
            findings.append(Finding("unsupported", message, token.line, token.column))
        elif _RESERVED.match(token.text):
            message = f"`{token.text}` is a name of the cpu device's own: choose another"
            findings.append(Finding("reserved-name", message, token.line, token.column))
    return findings


def opened_files(depfile: str) -> list[str]:
    """The files a compiler's ``-MD`` output names, the target left out."""
    text = depfile.replace("\\\n", " ")
    _, _, files = text.partition(": ")
    words = re.findall(r"(?:\\.|\$\$|[^\s\\])+", files)
    return [re.sub(r"\\(.)", r"\1", word.replace("$$", "$")) for word in words]


def foreign_files(depfile: str, folder: Path, allowed: Sequence[Path]) -> list[str]:
    """Files that were opened outside the ``allowed`` folders and files."""
    roots = [path.resolve() for path in allowed]
    found = []
    for name in opened_files(depfile):
        path = (folder / name).resolve()
        if not any(path == root or root in path.parents for root in roots):
            found.append(name)
    return found


def include_finding(source: str) -> Finding:
    """The finding for a file that must not be opened. Nothing of the file is told."""
    message = "a file is included that is none of CUDA's own headers"
    known = re.compile(r"[<\"][\w./+-]+[>\"]\s*\Z")
    for number, text in enumerate(source.split("\n"), 1):
        directive = re.match(r"\s*#\s*include(?:_next)?\s*(.*)", text)
        if directive and (not known.match(directive[1]) or "/" in directive[1].strip('"<> ')[:1]):
            return Finding("include", message, number)
    return Finding("include", message)


def screen_preprocessed(text: str, name: str) -> list[Finding]:
    """Findings on the lines of a preprocessed file that came from the kernel itself.

    ``name`` is the kernel's file name as the line markers have it.
    """
    _, rows, numbers = own_lines(text, name)
    findings = []
    for finding in _tokens(tokenize("\n".join(rows))):
        line = numbers[(finding.line or 1) - 1] if numbers else None
        findings.append(evolve(finding, line=line))
    return findings


def own_lines(text: str, name: str) -> tuple[list[int], list[str], list[int]]:
    """The kernel's own lines after preprocessing: index in the text, text, source line."""
    files = [name]
    places: list[int] = []
    rows: list[str] = []
    numbers: list[int] = []
    number = 1
    for place, row in enumerate(text.split("\n")):
        marker = _MARKER.match(row) if row.startswith("# ") else None
        if marker is None:
            if files[-1] == name:
                places.append(place)
                rows.append(row)
                numbers.append(number)
            number += 1
            continue
        number, file, flags = int(marker[1]), marker[2], marker[3].split()
        if "1" in flags:
            files.append(file)
        elif "2" in flags and file in files:
            while files[-1] != file:
                files.pop()
        else:
            files[-1] = file
    return places, rows, numbers


def _tokens(tokens: Sequence[Token]) -> Iterator[Finding]:
    for index, token in enumerate(tokens):
        line = token.line
        if token.directive:
            if token.text == "#" and token.starts_line:
                yield from _pragma(tokens[index + 1 : index + 4], line)
            continue
        if token.kind == "identifier":
            yield from _identifier(tokens, index, line)
        elif token.text == "[" and [t.text for t in tokens[index + 1 : index + 2]] == ["["]:
            words = [t.text for t in tokens[index + 2 : index + 4]]
            if words and words[0].strip("_") in ("gnu", "clang", "using"):
                yield Finding("host-code", f"the attribute `[[{words[0]}::…]]`", line)


def _pragma(words: Sequence[Token], line: int) -> Iterator[Finding]:
    texts = [word.text for word in words]
    if texts[:1] != ["pragma"]:
        yield Finding("directive", f"`#{' '.join(texts[:1])}` comes out of a macro", line)
        return
    if texts[1:3] == ["GCC", "unroll"] or texts[1:2] in (["unroll"], ["nounroll"], ["once"]):
        return
    if texts[1:2] and (texts[1].startswith(("nv_", "diag_"))):
        return
    yield Finding("directive", f"`#pragma {' '.join(texts[1:])}` is not possible here", line)


def _identifier(tokens: Sequence[Token], index: int, line: int) -> Iterator[Finding]:
    text = tokens[index].text
    if text in ("asm", "__asm", "__asm__"):
        # Statements have been translated by now (ptx/statements.py): this is a declaration.
        yield Finding("unsupported", "the cpu device cannot run `asm` outside a statement", line)
    elif text in ("__attribute__", "__attribute"):
        for name in _attribute_names(tokens, index + 1):
            if name.strip("_") not in _HARMLESS_ATTRIBUTES:
                yield Finding("host-code", f"the attribute `{name}`", line)
    elif text.startswith("__builtin_") and not _HARMLESS_BUILTINS.match(text):
        yield Finding("host-code", f"`{text}` is a function of the host's compiler", line)


def _attribute_names(tokens: Sequence[Token], index: int) -> Iterator[str]:
    """The names inside ``((a, b(1)))``, without their arguments."""
    depth = 0
    for token in tokens[index:]:
        if token.text == "(":
            depth += 1
        elif token.text == ")":
            depth -= 1
            if depth <= 0:
                return
        elif depth == 2 and token.kind == "identifier":
            yield token.text
        elif depth == 0:
            return
