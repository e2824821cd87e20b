"""From the text of a ``.cu`` file to a ``Kernel``: launch, scratch and tune lines.

The lines are comments, so they count only where the C++ tokenizer sees a line comment.
Expressions become syntax trees by our own grammar (``launch.lark``); nothing is evaluated
by Python.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

from attrs import frozen
from lark import Lark, Token, Transformer, UnexpectedInput, v_args
from lark.exceptions import VisitError
from lark.tree import Meta

from search_engine.contract.errors import ContractError
from search_engine.contract.kernel import Expression, Kernel, Launch, Scratch, Tune
from search_engine.contract.tokens import tokenize
from search_engine.task import ITEM_BYTES
from search_engine.verdict import Finding

_LINE = re.compile(r"//+\s*(?P<keyword>launch|scratch|tune|aten)\s*:")
_TUNE = re.compile(r"\s*(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<values>.*?)\s*$", re.DOTALL)
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*\Z")
# One value of a macro: a number, a type or a name, nothing that could hold a statement.
_TUNE_VALUE = re.compile(r"[-+]?[\w.:<>, ]+\Z")

_WORD = re.compile(r"[\w.]+|[<>]{1,3}|[^\w\s]")

LONGEST_LINE = 2000  # characters; keeps expression trees shallow too
LONGEST_EXPRESSION = 400

_WORDS = {
    "$END": "the end of the line",
    "CLUSTER": "`cluster=(x, y, z)`",
    "SIZE": "`size(i)`",
    "NUMEL": "`numel()`",
}
# What may also follow an operand; naming these would bury what closes the bracket.
_CONTINUES = {"PLUS", "MINUS", "STAR", "SLASH", "DOUBLE_SLASH", "PERCENT", "DOT"}


@frozen
class _Options:
    cooperative: bool = False
    cluster: tuple[Expression, ...] | None = None


@v_args(inline=True)
class _Builder(Transformer[Token, Any]):
    """Builds the contract's types bottom-up; places are set by the caller."""

    def __init__(self, text: str, line: int, column: int) -> None:
        super().__init__()
        self._text, self._line, self._column = text, line, column

    @v_args(meta=True, inline=True)
    def expression(self, meta: Meta, tree: ast.expr) -> Expression:
        text = self._text[meta.start_pos : meta.end_pos]
        return Expression(text, self._line, self._column + meta.start_pos, tree)

    def integer(self, token: Token) -> ast.expr:
        return ast.Constant(int(token, 0) if token[:2].lower() == "0x" else int(token))

    def floating(self, token: Token) -> ast.expr:
        return ast.Constant(float(token.rstrip("fF")))

    def name(self, token: Token) -> ast.expr:
        if token in ("true", "false"):
            return ast.Constant(token == "true")
        return ast.Name(str(token), ast.Load())

    @staticmethod
    def _binary(operator: type[ast.operator], left: ast.expr, right: ast.expr) -> ast.expr:
        return ast.BinOp(left, operator(), right)

    def add(self, left: ast.expr, right: ast.expr) -> ast.expr:
        return self._binary(ast.Add, left, right)

    def subtract(self, left: ast.expr, right: ast.expr) -> ast.expr:
        return self._binary(ast.Sub, left, right)

    def multiply(self, left: ast.expr, right: ast.expr) -> ast.expr:
        return self._binary(ast.Mult, left, right)

    def divide(self, left: ast.expr, *rest: ast.expr) -> ast.expr:
        return self._binary(ast.Div, left, rest[-1])

    def remainder(self, left: ast.expr, right: ast.expr) -> ast.expr:
        return self._binary(ast.Mod, left, right)

    def negate(self, operand: ast.expr) -> ast.expr:
        return ast.UnaryOp(ast.USub(), operand)

    def _method(self, name: Token, method: str, *arguments: ast.expr) -> ast.expr:
        owner = ast.Name(str(name), ast.Load())
        return ast.Call(ast.Attribute(owner, method, ast.Load()), list(arguments), [])

    def size(self, name: Token, index: ast.expr) -> ast.expr:
        return self._method(name, "size", index)

    def numel(self, name: Token) -> ast.expr:
        return self._method(name, "numel")

    def call(self, name: Token, *arguments: ast.expr) -> ast.expr:
        return ast.Call(ast.Name(str(name), ast.Load()), list(arguments), [])

    def dimensions(self, *items: Expression) -> tuple[Expression, ...]:
        return items

    def arguments(self, *items: Expression) -> tuple[Expression, ...]:
        return items

    def cooperative(self) -> _Options:
        return _Options(cooperative=True)

    def cluster(self, dimensions: tuple[Expression, ...]) -> _Options:
        return _Options(cluster=dimensions)

    def launch(
        self,
        function: Token,
        grid: tuple[Expression, ...],
        block: tuple[Expression, ...],
        shared: Expression | None,
        arguments: tuple[Expression, ...] | None,
        *options: _Options,
    ) -> Launch:
        return Launch(
            function=str(function),
            grid=grid,
            block=block,
            shared=shared,
            arguments=arguments or (),
            cooperative=any(option.cooperative for option in options),
            cluster=next((o.cluster for o in options if o.cluster is not None), None),
            line=self._line,
        )

    def scratch(
        self, name: Token, dtype: Token, shape: tuple[Expression, ...], zeroed: Token | None
    ) -> Scratch:
        return Scratch(str(name), str(dtype), shape, zeroed is not None, self._line)


@cache
def _grammar() -> Lark:
    return Lark(
        Path(__file__).with_name("launch.lark").read_text(),
        parser="lalr",
        start=["launch", "scratch"],
        propagate_positions=True,
        maybe_placeholders=True,
    )


def _expected(names: set[str]) -> str:
    """What the grammar would have taken, in words."""
    if {"NAME", "INTEGER"} <= names:
        words = ["an expression"]
        if "RPAR" in names:
            words.append("`)`")
    elif names == {"NAME"}:
        words = ["a name"]
    else:
        if names & _CONTINUES:
            names = names - _CONTINUES - {"LPAR"}
        patterns = {t.name: t.pattern.value for t in _grammar().terminals}
        words = [_WORDS.get(name, f"`{patterns.get(name, name)}`") for name in sorted(names)]
    return " or ".join(words)


def _syntax_finding(
    keyword: str, text: str, line: int, column: int, error: UnexpectedInput
) -> Finding:
    ended = len(text.rstrip())
    offset = error.pos_in_stream
    token = getattr(error, "token", None)
    if offset is None or (token is not None and token.type == "$END"):
        offset = ended
    names = set(getattr(error, "accepts", None) or getattr(error, "expected", None) or ())
    names |= set(getattr(error, "allowed", None) or ())
    word = _WORD.match(text, offset)
    found = f"`{word.group()}`" if word else "the end of the line"
    shape = {
        "launch": "name<<<grid, block[, bytes]>>>(arguments)",
        "scratch": "name dtype[shape] [zeroed]",
    }[keyword]
    message = f"expected {_expected(names)}, found {found}; a {keyword} line reads `{shape}`"
    return Finding(f"{keyword}-syntax", message, line, column + offset)


def _checked_identifier(
    keyword: str, what: str, name: str, line: int, column: int
) -> list[Finding]:
    if _IDENTIFIER.match(name):
        return []
    message = f"expected a plain C name for the {what}, found `{name}`"
    return [Finding(f"{keyword}-syntax", message, line, column)]


class _Parser:
    def __init__(self) -> None:
        self.launches: list[Launch] = []
        self.scratch: list[Scratch] = []
        self.tunes: list[Tune] = []
        self.findings: list[Finding] = []

    def line(self, keyword: str, text: str, line: int, column: int) -> None:
        """One contract line; ``text`` is what stands behind the colon, at ``column``."""
        blanks = len(text) - len(text.lstrip())
        if len(text) > LONGEST_LINE:
            message = f"a {keyword} line has at most {LONGEST_LINE} characters"
            self.findings.append(Finding(f"{keyword}-syntax", message, line, column))
        elif keyword == "aten":
            message = "`// aten:` lines are not supported: write the operation as a kernel"
            self.findings.append(Finding("aten-line", message, line, column + blanks))
        elif keyword == "tune":
            self._tune(text, line, column + blanks)
        else:
            self._parsed(keyword, text, line, column)

    def _parsed(self, keyword: str, text: str, line: int, column: int) -> None:
        try:
            tree = _grammar().parse(text, start=keyword)
            parsed = _Builder(text, line, column).transform(tree)
        except UnexpectedInput as error:
            self.findings.append(_syntax_finding(keyword, text, line, column, error))
            return
        except (VisitError, RecursionError):
            message = "an expression is nested too deeply or has a number that is too long"
            self.findings.append(Finding(f"{keyword}-syntax", message, line, column))
            return
        start = column + len(text) - len(text.lstrip())
        if isinstance(parsed, Launch):
            self.findings += _checked_identifier(
                "launch", "kernel function", parsed.function, line, start
            )
            self._short(parsed.grid + parsed.block + parsed.arguments)
            self.launches.append(parsed)
        else:
            self._scratch(parsed, start)

    def _short(self, expressions: tuple[Expression, ...]) -> None:
        for expression in expressions:
            if len(expression.text) > LONGEST_EXPRESSION:
                message = f"an expression has at most {LONGEST_EXPRESSION} characters"
                self.findings.append(
                    Finding("expression", message, expression.line, expression.column)
                )

    def _scratch(self, parsed: Scratch, column: int) -> None:
        self.findings += _checked_identifier(
            "scratch", "scratch buffer", parsed.name, parsed.line, column
        )
        self._short(parsed.shape)
        if parsed.dtype not in ITEM_BYTES:
            message = f"unknown dtype `{parsed.dtype}`: expected one of {', '.join(ITEM_BYTES)}"
            self.findings.append(Finding("scratch-syntax", message, parsed.line, column))
        if any(parsed.name == other.name for other in self.scratch):
            message = f"scratch `{parsed.name}` is declared twice"
            self.findings.append(Finding("scratch-syntax", message, parsed.line, column))
        self.scratch.append(parsed)

    def _tune(self, text: str, line: int, column: int) -> None:
        match = _TUNE.match(text)
        values = tuple(v.strip() for v in match["values"].split("|")) if match else ()
        if match is None or not all(map(_is_value, values)):
            message = "expected `NAME = value | value | value`, each a number or a name"
            self.findings.append(Finding("tune-syntax", message, line, column))
            return
        if any(match["name"] == other.name for other in self.tunes):
            message = f"`{match['name']}` has two tune lines"
            self.findings.append(Finding("tune-syntax", message, line, column))
        self.tunes.append(Tune(match["name"], values, line))


def _is_value(text: str) -> bool:
    """A number or a name; commas stand between template arguments alone."""
    return bool(_TUNE_VALUE.match(text)) and "," not in re.sub(r"<[^<>]*>", "", text)


def parse(source: str) -> Kernel:
    """The kernel of a ``.cu`` file.

    Raises ContractError with all findings (line, column, what was expected) where a
    launch, scratch or tune line is malformed, or there is no launch line.
    """
    parser = _Parser()
    lines = source.split("\n")
    for token in tokenize(source):
        if token.kind != "comment":
            continue
        match = _LINE.match(token.text)
        if match is not None:
            text = token.text[match.end() :]
            before = lines[token.line - 1][: token.column - 1].strip()
            if match["keyword"] == "tune" and before and not before.startswith("#"):
                message = "a tune line stands on a line of its own"
                parser.findings.append(Finding("tune-syntax", message, token.line, token.column))
            parser.line(match["keyword"], text, token.line, token.column + match.end())
    if not parser.launches and not parser.findings:
        parser.findings.append(
            Finding(
                "launch-missing",
                "there is no launch line: say how to run the kernel, for example "
                "`// launch: name<<<ceil_div(x.numel(), 256), 256>>>(x, out)`",
                line=1,
                column=1,
            )
        )
    if parser.findings:
        raise ContractError(sorted(parser.findings, key=lambda f: (f.line or 0, f.column or 0)))
    return Kernel(
        source=source,
        launches=tuple(parser.launches),
        scratch=tuple(parser.scratch),
        tunes=tuple(parser.tunes),
    )
