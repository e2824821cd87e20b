from search_engine.contract.parse import parse
from search_engine.contract.tune import configurations, filled, open_tunes, values_text

CODE = """// tune: BLOCK = 64 | 128 | 64
// tune: T = float2 | float4
#define ROWS 2  // tune: ROWS = 2 | 4
// tune: ONE = 1
// launch: run<<<1, BLOCK>>>(x, out)
extern "C" __global__ void run(const float* x, float* out) {}
"""


def test_open_are_the_lines_that_leave_a_choice():
    assert open_tunes(parse(CODE)) == {"BLOCK": ("64", "128"), "T": ("float2", "float4")}


def test_a_filled_source_leaves_no_choice():
    source = filled(CODE, {"BLOCK": "128", "T": "float4"})
    assert source.splitlines()[:2] == [
        "#define BLOCK 128  // tune: BLOCK = 128",
        "#define T float4  // tune: T = float4",
    ]
    assert "#define ONE 1" in source
    assert open_tunes(parse(source)) == {}
    assert filled(source, {"BLOCK": "64"}) == source
    assert len(source.splitlines()) == len(CODE.splitlines())


def test_all_configurations_in_the_order_of_the_lines():
    found = configurations(open_tunes(parse(CODE)), 100)
    assert [values_text(values) for values in found] == [
        "BLOCK=64, T=float2", "BLOCK=64, T=float4", "BLOCK=128, T=float2", "BLOCK=128, T=float4",
    ]  # fmt: skip


def test_of_many_a_sample_that_is_always_the_same():
    tunes = {name: tuple(map(str, range(10))) for name in "ABCDEFGH"}
    found = configurations(tunes, 50)
    assert found == configurations(tunes, 50)
    assert len({tuple(values.items()) for values in found}) == 50
    assert found[0] == dict.fromkeys("ABCDEFGH", "0")
    assert all(list(values) == list(tunes) for values in found)
    assert len({values["A"] for values in found}) > 4
