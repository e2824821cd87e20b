import pytest

from search_engine.contract.errors import ContractError
from search_engine.contract.parse import parse


def findings(source):
    with pytest.raises(ContractError) as caught:
        parse(source)
    return caught.value.findings


def test_the_lines_of_a_kernel():
    kernel = parse(
        "// scratch: partial float32[512, x.size(0)] zeroed\n"
        "  //launch:k<<<(8, 2), dim3(32, 4), 4*N>>>(x, ln.weight, out.0, 1e-5f, -2)\n"
        "// launch: k2 <<< ceil_div(x.numel(), 256), 256 >>> () cooperative cluster=(2, 1, 1)\r\n"
        "// tune: N = 64 | 128\n"
        "// a comment about // launch: lines\n"
    )
    scratch, (first, second), tune = kernel.scratch[0], kernel.launches, kernel.tunes[0]
    assert (scratch.name, scratch.dtype, scratch.zeroed) == ("partial", "float32", True)
    assert [e.text for e in scratch.shape] == ["512", "x.size(0)"]
    assert [e.text for e in first.grid] == ["8", "2"]
    assert [e.text for e in first.block] == ["32", "4"]
    assert first.shared.text == "4*N"
    assert [e.text for e in first.arguments] == ["x", "ln.weight", "out.0", "1e-5f", "-2"]
    assert not first.cooperative
    assert first.cluster is None
    assert (first.line, second.line) == (2, 3)
    assert second.cooperative
    assert [e.text for e in second.cluster] == ["2", "1", "1"]
    assert second.arguments == ()
    assert (tune.name, tune.values, tune.line) == ("N", ("64", "128"), 4)


def test_expressions_know_their_place():
    kernel = parse("\n  // launch: k<<<1, min(2, x.size(0))>>>(x)")
    assert (kernel.launches[0].block[0].line, kernel.launches[0].block[0].column) == (2, 21)


def test_names_with_numbers_in_them():
    text = "layers.0.weight, 0.weight, 0.1.bias, out.a_key, size, x.size"
    kernel = parse(f"// launch: k<<<1, 1>>>({text})")
    assert [e.text for e in kernel.launches[0].arguments] == [
        "layers.0.weight", "0.weight", "0.1.bias", "out.a_key", "size", "x.size"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "place",
    ['const char* s = "\n// launch: k<<<1, 1>>>(x)\n";', "/* // launch: k<<<1, 1>>>(x) */",
     'R"(\n// launch: k<<<1, 1>>>(x)\n)";', "/*\n// launch: k<<<1, 1>>>(x)\n*/"],
)  # fmt: skip
def test_only_comments_hold_launch_lines(place):
    # An unescaped line end closes an ordinary string, so the first one's line is a comment.
    if place.startswith("const"):
        assert len(parse(place).launches) == 1
    else:
        assert findings(place)[0].check == "launch-missing"


def test_no_launch_line_is_a_finding_that_shows_one():
    (finding,) = findings("// lunch: k<<<1, 1>>>(x)\n__global__ void k() {}")
    assert finding.check == "launch-missing"
    assert "// launch: name<<<" in finding.message


# text behind "// launch: ", column of the mistake, what was expected, what was found
@pytest.mark.parametrize(
    ("text", "column", "expected", "found"),
    [
        ("k<<<1>>>(x)", 17, "`,`", "`>>>`"),
        ("k<<<1, 2>>>(x", 25, "`,` or `)`", "the end of the line"),
        ("k<<1, 2>>>(x)", 13, "`<<<`", "`<<`"),
        ("k<<<1, 2>>>(x,)", 26, "an expression", "`)`"),
        ("k<<<1, 2>>>(x) coop", 27, "`cluster=(x, y, z)` or `cooperative`", "`coop`"),
        ("k<<<1, 2, 3, 4>>>(x)", 23, "`>>>`", "`,`"),
        ("k<<<1, (2,>>>(x)", 22, "an expression", "`>>>`"),
        ("k<<<1, 2>>>(x[0])", 25, "`,` or `)`", "`[`"),
        ("k<<<1, 2>>>(x) cluster", 34, "`=`", "the end of the line"),
        ("<<<1, 2>>>(x)", 12, "a name", "`<<<`"),
        ("", 11, "a name", "the end of the line"),
        ("k<float><<<1, 2>>>(x)", 13, "`<<<`", "`<`"),
        ("k<<<1, 2 ** 3>>>(x)", 22, "an expression", "`*`"),
        ("k<<<1, x.size()>>>(x)", 26, "an expression", "`)`"),
        ('k<<<1, __import__("os")>>>()', 30, "an expression", '`"`'),
    ],
)
def test_a_malformed_line_says_where_and_what(text, column, expected, found):
    (finding,) = findings(f"\n// launch: {text}")
    assert finding.check == "launch-syntax"
    assert (finding.line, finding.column) == (2, column)
    assert expected in finding.message.split(", found")[0]
    assert f"found {found}" in finding.message
    assert "name<<<grid, block[, bytes]>>>(arguments)" in finding.message


@pytest.mark.parametrize(
    ("line", "check", "words"),
    [
        ("// scratch: p float32", "scratch-syntax", "expected `[`"),
        ("// scratch: p float31[2]", "scratch-syntax", "unknown dtype `float31`"),
        ("// scratch: p float32[2] zero", "scratch-syntax", "`zeroed`"),
        ("// scratch: p.q float32[2]", "scratch-syntax", "plain C name"),
        ("// tune: N", "tune-syntax", "NAME = value"),
        ("// tune: N = 1 | | 2", "tune-syntax", "NAME = value"),
        ("// tune: N = 64, 128", "tune-syntax", "value | value"),
        ("// tune: N = 1; system()", "tune-syntax", "NAME = value"),
        ("int x; // tune: N = 1 | 2", "tune-syntax", "line of its own"),
        ("// launch: a.b<<<1, 1>>>(x)", "launch-syntax", "plain C name"),
        ("// aten: h = addmm(b, x, w)", "aten-line", "not supported"),
        (f"// launch: k<<<{'(' * 500}1{')' * 500}, 1>>>()", "expression", "at most"),
        (f"// launch: k<<<1, 1>>>({'x, ' * 2000}x)", "launch-syntax", "characters"),
        (f"// launch: k<<<{'9' * 399}, 1>>>({'9' * 5000})", "launch-syntax", "characters"),
    ],
)
def test_other_malformed_lines(line, check, words):
    finding = findings(line)[0]
    assert finding.check == check
    assert words in finding.message
    assert finding.line == 1


def test_all_mistakes_come_at_once_in_the_order_of_their_lines():
    found = findings("// launch: k<<<1>>>(x)\n// scratch: a float32[1]\n// scratch: a int[1]\n")
    assert [f.line for f in found] == [1, 3, 3]
