import pytest

from search_engine.contract.tokens import code, directives, tokenize


def spelled(source):
    return [t.text for t in tokenize(source)]


def kinds(source):
    return [(t.kind, t.text) for t in tokenize(source)]


def test_places_are_of_the_file_as_written():
    source = "int a;\n  float\\\n  4 b; // c\n"
    places = {t.text: (t.line, t.column) for t in tokenize(source)}
    assert places["a"] == (1, 5)
    assert places["float"] == (2, 3)
    assert places["4"] == (3, 3)
    assert places["// c"] == (3, 8)


def test_a_continued_line_joins_words_and_comments():
    assert spelled("in\\\nclude") == ["include"]
    assert kinds("// a \\\nb\nc") == [("comment", "// a b"), ("identifier", "c")]
    assert kinds("/\\\n/ a") == [("comment", "// a")]
    assert spelled("in\\  \nt x;") == ["int", "x", ";"]  # compilers let blanks stand there


@pytest.mark.parametrize(
    "text",
    ['"// no"', "'/'", '"a \\" // b"', 'R"(// no)"', 'R"x(a)" // )x"', 'u8"//"', 'R"(a\n// b\n)"'],
)
def test_what_stands_in_a_string_is_no_comment(text):
    assert [t.text for t in tokenize(f"x = {text};")] == ["x", "=", text, ";"]


def test_a_raw_string_keeps_its_continuations():
    assert spelled('R"(a\\\nb)" c') == ['R"(a\\\nb)"', "c"]


def test_block_comments_do_not_nest_and_may_stay_open():
    assert kinds("/* a /* b */ c") == [("block comment", "/* a /* b */"), ("identifier", "c")]
    assert kinds("/* a\n b") == [("block comment", "/* a\n b")]


def test_digraphs_are_spelled_out():
    assert spelled("%:include <% <: :> %>") == ["#", "include", "{", "[", "]", "}"]
    assert spelled("a<::b>") == ["a", "<", "::", "b", ">"]  # the standard's own exception


def test_numbers():
    assert spelled("1'000 1e-5f 0x1.8p3 .5 1.f+2") == [
        "1'000", "1e-5f", "0x1.8p3", ".5", "1.f", "+", "2"
    ]  # fmt: skip


def test_directives_and_code_are_apart():
    tokens = tokenize("#define A \\\n  b // c\nint x; /* # */ # y\n/* z */ # pragma unroll\n")
    assert [[t.text for t in line] for line in directives(tokens)] == [
        ["#", "define", "A", "b"],
        ["#", "pragma", "unroll"],
    ]
    assert [t.text for t in code(tokens)] == ["int", "x", ";", "#", "y"]


@pytest.mark.parametrize("source", ["", "\\", '"open', "'", 'R"(open', "\r\n", "\u2028", "\0", "é"])
def test_anything_is_tokenised_to_its_end(source):
    joined = "".join(t.text for t in tokenize(source + "\nend"))
    assert "end" in joined
