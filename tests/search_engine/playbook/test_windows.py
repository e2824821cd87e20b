"""Pooling and other windows: what they mean, and a thread per output on the cpu device."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search_engine.contract.check import check
from search_engine.contract.parse import parse
from search_engine.hardware import H200
from search_engine.playbook.analyse import analyse
from search_engine.playbook.halo import halo_of
from search_engine.playbook.idea import Variant
from search_engine.playbook.ideas.thread_per_output import ThreadPerOutput
from search_engine.playbook.ideas.window_in_shared import WindowInShared
from search_engine.playbook.program import Unsupported
from search_engine.playbook.strip import best_strip

IDEA = ThreadPerOutput()
SHARED = WindowInShared()
fixtures_are_shared = [HealthCheck.function_scoped_fixture]
many = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=fixtures_are_shared
)


def all_valid(program) -> list[Variant]:
    found = [
        Variant.of(threads=64, outputs=outputs, along=along)
        for outputs in IDEA.knobs["outputs"][0]
        for along in IDEA.knobs["along"][0]
    ]
    return [variant for variant in found if IDEA.valid(program, variant, H200)]


def rendered(captured) -> list[str]:
    """The kernels of all variants but block sizes."""
    program = analyse(captured.task)
    assert IDEA.applies(program, H200)
    return [IDEA.render(program, variant, H200) for variant in all_valid(program)]


# --- what pooling means -------------------------------------------------------------------


@st.composite
def pools(draw, rank: int):
    """A call of a pooling function and the spatial shape that it takes."""
    kind = draw(st.sampled_from(["max", "avg", "adaptive_avg", "adaptive_max"]))
    if kind.startswith("adaptive"):
        after = draw(st.tuples(*[st.integers(1, 3)] * rank))
        shape = [size * draw(st.integers(1, 4)) for size in after]
        return f"F.{kind}_pool{rank}d(x, {after})", shape
    kernel = draw(st.tuples(*[st.integers(1, 4)] * rank))
    stride = draw(st.tuples(*[st.integers(1, 4)] * rank))
    padding = tuple(draw(st.integers(0, size // 2)) for size in kernel)
    options = f"stride={stride}, padding={padding}, ceil_mode={draw(st.booleans())}"
    dilation = (1,) * rank
    if kind == "max":
        dilation = draw(st.tuples(*[st.integers(1, 3)] * rank))
        options += f", dilation={dilation}"
    else:
        options += f", count_include_pad={draw(st.booleans())}"
        if rank > 1:
            options += f", divisor_override={draw(st.sampled_from([None, 3]))}"
    shape = [draw(st.integers((k - 1) * d + 1, 11)) for k, d in zip(kernel, dilation, strict=True)]
    return f"F.{kind}_pool{rank}d(x, {kernel}, {options})", shape


@many
@given(data=st.data(), rank=st.integers(1, 3))
def test_pooling_as_statistics_over_windows(take, means, data, rank):
    call, shape = data.draw(pools(rank))
    captured = take(f"x=float32[2, 3, {', '.join(map(str, shape))}]", f"return {call}")
    means(captured, draws=[("normal", 3)], special="max" in call)


@pytest.mark.parametrize(
    ("forward", "named"),
    [
        ("return F.max_pool2d(x, 2, return_indices=True)", "aten.max_pool2d_with_indices.default"),
        ("return F.adaptive_avg_pool2d(x, (5, 9))", "aten.adaptive_avg_pool2d.default"),
        ("return F.avg_pool2d(x.long(), 2)", "int64"),
    ],
)
def test_what_is_not_covered_is_named(take, forward, named):
    captured = take("x=float32[2, 3, 8, 9]", forward)
    with pytest.raises(Unsupported, match=named):
        analyse(captured.task)


# --- a thread per output ------------------------------------------------------------------

WINDOWS = {
    "max": "F.max_pool2d(x, (3, 2), stride=(2, 1), padding=(1, 1), dilation=(1, 2))",
    "max, ceil": "F.max_pool2d(x, 3, stride=2, ceil_mode=True)",
    "average, inside alone": "F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)",
    "power": "F.lp_pool2d(x, 2.0, 2)",
    "fused": "F.relu(F.max_pool2d(F.gelu(x) * 2, 3, stride=1, padding=1) + self.b)",
    "depthwise": "F.silu(F.conv2d(x, self.w, self.b.flatten(), padding=1, groups=3))",
    "dilated": "F.conv2d(x, self.w, stride=(2, 1), padding=2, dilation=(1, 2), groups=3)",
    "smallest, largest, product": "x.amin(1), x.amax(1), x.sum(1)",
    "averages of averages": "F.avg_pool2d(x, 3) * F.avg_pool2d(x * x, 3)",
}
PARAMETERS = (
    "self.b = nn.Parameter(torch.ones(3, 1, 1))\nself.w = nn.Parameter(torch.randn(3, 1, 3, 3))"
)


@pytest.mark.parametrize("name", WINDOWS)
def test_kernels_of_windows(take, agree, name):
    captured = take("x=float32[2, 3, 9, 13]", f"return {WINDOWS[name]}", PARAMETERS)
    agree(captured, rendered(captured), draws=[("normal", 1)])


@pytest.mark.parametrize(
    ("inputs", "forward"),
    [
        ("x=float16[3, 2, 37]", "return F.max_pool1d(x * 2, 3, 1, 1)"),
        ("x=bfloat16[3, 2, 38]", "return F.relu(F.avg_pool1d(x, 4, 2, 1))"),
        ("x=int32[4, 7, 9]", "return x.amax(1) - x.amin(1), x.sum(1)"),
        ("x=float64[2, 5, 4, 9]", "return F.max_pool3d(x, (2, 2, 3), (1, 2, 1), (0, 1, 1))"),
    ],
)
def test_kernels_of_other_ranks_and_dtypes(take, agree, inputs, forward):
    captured = take(inputs, forward)
    agree(captured, rendered(captured), draws=[("normal", 1)])


def test_a_nan_wins_and_padding_never_does(take, cpu):
    captured = take("x=float32[1, 2, 5, 6]", "return F.max_pool2d(x, 3, 1, 1)")
    x = torch.full((1, 2, 5, 6), float("-inf"))
    x[0, 0, 2, 3], x[0, 1, 4, 5] = float("nan"), -1e30
    wanted = torch.nn.functional.max_pool2d(x, 3, 1, 1)
    sources = rendered(captured)
    assert len(sources) > 1
    for program in cpu.compile([parse(source) for source in sources], captured.task):
        execution = cpu.execute(program, captured.task, {"x": x}, checked=True)
        assert execution.findings == ()
        torch.testing.assert_close(execution.outputs["out"], wanted, equal_nan=True, rtol=0, atol=0)


def test_neighbours_share_what_their_windows_have_in_common(take):
    """Three outputs of a 3-tap window at stride 1 read 5 values; at stride 3 they share none."""
    program = analyse(take("x=float32[2, 4, 9, 9]", "return F.max_pool2d(x, 3, 1)").task)
    strip = best_strip(program, program.rows[-2])
    assert strip is not None
    assert (strip.length(3), strip.tap.size) == (5, 3)
    assert all(strip.held(s.body) for s in program.statistics)
    program = analyse(take("x=float32[2, 4, 9, 9]", "return F.max_pool2d(x, 3, 3)").task)
    assert best_strip(program, program.rows[-2]) is None
    assert [v.number("outputs") for v in all_valid(program)] == [1]


def test_a_reduction_over_a_dimension_is_no_window(take):
    """Places 11 apart along an axis of 11 outputs: no output reads another's."""
    program = analyse(take("x=float32[5, 7, 11]", "return x.prod(1)").task)
    assert best_strip(program, program.rows[-1], 32) is None


def test_where_it_does_not_apply(take):
    for forward in (
        "return x.softmax(-1)",  # results along the row
        "return x.var(-1)",  # moments
        "return F.relu(x)",
        "return x.argmax(-1)",  # places
        "return x.cumsum(-1)",
    ):
        assert not IDEA.applies(analyse(take("x=float32[4, 6, 16]", forward).task), H200)
    long = analyse(take("x=float32[4, 5000]", "return x.sum(-1)").task)
    assert not IDEA.applies(long, H200)


# --- windows in shared memory -------------------------------------------------------------

OVERLAPPING = {
    # what is computed, the input's shape, tile sizes
    "max": (WINDOWS["max"], "2, 3, 11, 41", [(32, 8, 1), (32, 4, 2)]),
    "average": ("F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)", "1, 3, 9, 35", [(32, 8, 4)]),
    "fused": (WINDOWS["fused"], "1, 3, 17, 66", [(64, 8, 8)]),
    "depthwise": (WINDOWS["depthwise"], "2, 3, 10, 37", [(32, 4, 1), (32, 8, 4)]),
    "dilated": (WINDOWS["dilated"], "1, 3, 12, 40", [(32, 4, 2)]),
    "unpadded": ("F.conv2d(x, self.w, groups=3)", "2, 3, 10, 37", [(32, 4, 4)]),
    "one dimension": ("F.max_pool1d(x, 8, 1, 4, 3)", "2, 3, 90", [(64, 1, 1)]),
    "three dimensions": ("F.max_pool3d(x, 3, 1, 1)", "1, 2, 4, 5, 33", [(32, 4, 2)]),
}


@pytest.mark.parametrize("name", OVERLAPPING)
def test_windows_in_shared_memory(take, agree, name):
    forward, shape, sizes = OVERLAPPING[name]
    captured = take(f"x=float32[{shape}]", f"return {forward}", PARAMETERS)
    program = analyse(captured.task)
    assert SHARED.applies(program, H200)
    sources = []
    for width, height, outputs in sizes:
        variant = Variant.of(width=width, height=height, outputs=outputs)
        assert SHARED.valid(program, variant, H200), variant.label
        sources.append(SHARED.render(program, variant, H200))
    agree(captured, sources, draws=[("normal", 1)])


def test_a_tile_holds_what_its_windows_reach(take):
    """8 x 32 outputs of 3 x 2 taps, strides (2, 1), dilations (1, 2): 17 rows of 34 values."""
    forward = f"return {WINDOWS['max']}"
    halo = halo_of(analyse(take("x=float32[2, 3, 40, 70]", forward).task))
    assert halo is not None
    assert halo.lengths(8, 32) == (17, 34)
    assert halo.shared_bytes(8, 32) == 17 * 34 * 4
    for alone in ("return F.max_pool2d(x, 2)", "return x.sum(-1)"):
        assert not SHARED.applies(analyse(take("x=float32[2, 3, 40, 70]", alone).task), H200)


# --- any window's kernels -----------------------------------------------------------------


def test_variants_keep_the_contract_and_compile(take, nvrtc):
    for inputs, name in (
        ("float32[8, 3, 64, 62]", "fused"),
        ("float32[8, 3, 63, 64]", "depthwise"),
    ):
        task = take(f"x={inputs}", f"return {WINDOWS[name]}", PARAMETERS).task
        program = analyse(task)
        for idea in (IDEA, SHARED):
            for variant in idea.variants(program, H200):
                source = idea.render(program, variant, H200)
                assert check(parse(source), task, H200) == []
                assert nvrtc(source)


def test_the_text_is_that_of_any_leading_size(take):
    variants = {
        IDEA: Variant.of(threads=128, outputs=4, along="outer"),
        SHARED: Variant.of(width=32, height=8, outputs=2),
    }
    forward = f"return {WINDOWS['max']}"
    programs = [analyse(take(f"x=float32[{n}, 3, 12, 12]", forward).task) for n in (1, 5)]
    for idea, variant in variants.items():
        assert len({idea.render(program, variant, H200) for program in programs}) == 1
