from hypothesis import given, settings
from hypothesis import strategies as st

from search_engine.contract.parse import parse
from search_engine.contract.printer import (
    kernel_text,
    launch_line,
    print_line,
    scratch_line,
    tune_line,
)
from search_engine.contract.tune import filled
from search_engine.task import ITEM_BYTES

identifiers = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: name not in ("cooperative", "cluster", "dim3", "zeroed", "true", "false")
)
names = st.one_of(
    identifiers,
    st.builds("{}.{}".format, identifiers, identifiers),
    st.builds("{}.{}.{}".format, identifiers, st.integers(0, 20), identifiers),
)
expressions = st.recursive(
    st.one_of(
        st.integers(0, 10**6).map(str),
        st.sampled_from(["1e-5f", "0.5", "0x1F", "x.numel()"]),
        names,
        st.builds("{}.size({})".format, names, st.integers(-3, 3)),
    ),
    lambda inner: st.one_of(
        st.builds("{} {} {}".format, inner, st.sampled_from(["+", "-", "*", "/", "%"]), inner),
        st.builds("({})".format, inner),
        st.builds("-{}".format, inner),
        st.builds("{}({}, {})".format, st.sampled_from(["min", "max", "ceil_div"]), inner, inner),
    ),
    max_leaves=5,
)
dimensions = st.lists(expressions, min_size=1, max_size=3)
launches = st.builds(
    launch_line,
    identifiers,
    dimensions,
    dimensions,
    st.lists(expressions, max_size=4),
    shared=st.none() | expressions,
    cooperative=st.booleans(),
    cluster=st.none() | dimensions,
)
scratches = st.builds(
    scratch_line,
    st.just("buffer"),
    st.sampled_from(sorted(ITEM_BYTES)),
    st.lists(expressions, min_size=1, max_size=3),
    zeroed=st.booleans(),
)
tunes = st.builds(
    tune_line, st.just("BLOCK"), st.lists(st.integers(1, 99).map(str), min_size=1, max_size=4)
)


@settings(max_examples=150, deadline=None)
@given(st.lists(launches, min_size=1, max_size=3), st.lists(scratches, max_size=1),
       st.lists(tunes, max_size=1))  # fmt: skip
def test_what_is_printed_parses_to_the_same(launch_lines, scratch_lines, tune_lines):
    text = kernel_text([*scratch_lines, *tune_lines, *launch_lines], "// code")
    kernel = parse(text)
    printed = [print_line(i) for i in (*kernel.scratch, *kernel.tunes, *kernel.launches)]
    assert printed == [*scratch_lines, *tune_lines, *launch_lines]
    assert parse(kernel_text([*kernel.scratch, *kernel.tunes, *kernel.launches], "// code")) == (
        kernel
    )


def test_lines():
    assert launch_line("k", 1, "x.size(0)", ["x", 2, True]) == (
        "// launch: k<<<1, x.size(0)>>>(x, 2, true)"
    )
    assert launch_line("k", (1, 2), (32,), [], shared=16, cooperative=True, cluster=(2, 1, 1)) == (
        "// launch: k<<<(1, 2), 32, 16>>>() cooperative cluster=(2, 1, 1)"
    )
    assert scratch_line("p", "int32", [1, "x.size(0)"], zeroed=True) == (
        "// scratch: p int32[1, x.size(0)] zeroed"
    )
    assert tune_line("B", [1, 2]) == "// tune: B = 1 | 2"


def test_filled_tune_lines_keep_line_numbers_and_stay_filled():
    source = "// launch: k<<<1, B>>>(x)\n  // tune: B = 8 | 16\n// tune: T = float4 | float\ncode\n"
    once = filled(source)
    assert once.split("\n") == [
        "// launch: k<<<1, B>>>(x)",
        "  #define B 8  // tune: B = 8",
        "#define T float4  // tune: T = float4",
        "code",
        "",
    ]
    assert filled(once) == once
    assert "#define B 16" in filled(source, {"B": "16"})
    assert parse(once).tunes[0].values == ("8",)
