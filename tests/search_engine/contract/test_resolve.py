import pytest
from attrs import evolve

from search_engine.contract.errors import ContractError
from search_engine.contract.kernel import Number, Pointer
from search_engine.contract.parse import parse
from search_engine.contract.resolve import resolve
from search_engine.hardware import H200


def plan(task, launch, *lines, facts=H200):
    return resolve(parse("\n".join([*lines, f"// launch: {launch}"])), task, facts)


def number(task, text):
    argument = plan(task, f"k<<<1, 1>>>(out, {text})").launches[0].arguments[1]
    assert isinstance(argument, Number)
    return argument.value


def messages(task, *args, **kwargs):
    with pytest.raises(ContractError) as caught:
        plan(task, *args, **kwargs)
    return [f.message for f in caught.value.findings]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3 - 4", 3),
        ("(1 + 2) * 3", 9),
        ("7 / 2", 3),
        ("-7 / 2", -3),  # C truncates
        ("-7 % 3", -1),
        ("7 // 2", 3),
        ("8 - 4 - 2", 2),
        ("64 / 4 / 2", 8),
        ("- -3", 3),
        ("0x10", 16),
        ("x.size(0)", 16),
        ("x.size(-1)", 1000),
        ("x.numel()", 16000),
        ("ln.weight.numel()", 1000),
        ("ceil_div(x.numel(), 256)", 63),
        ("ceil_div(-7, 2)", -3),
        ("min(sm_count, 100, 3)", 3),
        ("max(sm_count, 100)", 132),
        ("alpha", 0.5),
        ("alpha * 2", 1.0),
        ("1e-5f", 1e-5),
        ("1.0 / x.size(1)", 0.001),
        ("count + 1", 4),
        ("flag", True),
        ("false", False),
    ],
)
def test_values(task, text, value):
    result = number(task, text)
    assert result == value
    assert type(result) is type(value)


def test_a_plan(task):
    result = plan(
        task,
        "k<<<(min(sm_count, x.size(0)), B), dim3(B, 2), 4*B>>>(x, ln.weight, part, out, B)"
        " cooperative",
        "// scratch: part float32[x.size(0), 2] zeroed",
        "// tune: B = 8 | 16",
    )
    launch = result.launches[0]
    assert (launch.grid, launch.block, launch.shared) == ((16, 8, 1), (8, 2, 1), 32)
    assert launch.arguments == (
        Pointer("x"), Pointer("ln.weight"), Pointer("part"), Pointer("out"), Number(8)
    )  # fmt: skip
    assert launch.cooperative
    assert result.scratch[0].shape == (16, 2)
    assert result.scratch[0].zeroed


def test_the_same_kernel_at_other_sizes(task):
    kernel = parse("// launch: k<<<x.size(0), 32>>>(x, out)")
    smaller = tuple(
        evolve(t, shape=(4, *t.shape[1:])) if t.name in ("x", "out") else t for t in task.tensors
    )
    assert resolve(kernel, task, H200).launches[0].grid[0] == 16
    assert resolve(kernel, evolve(task, tensors=smaller), H200).launches[0].grid[0] == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("wieght", "no tensor or scalar `wieght`"),
        ("ln.wieght", "did you mean `ln.weight`?"),
        ("y.size(0)", "there is no tensor `y`"),
        ("x.size(2)", "`x` has 2 dimensions, there is no size(2)"),
        ("x.size(0.5)", "a dimension is a whole number"),
        ("x + 1", "`x` is a tensor; write `x.size(i)`"),
        ("1 / 0", "division by zero"),
        ("1 % 0", "division by zero"),
        ("1.5 % 2", "whole numbers"),
        ("ceil_div(1.5, 2)", "whole numbers"),
        ("ceil_div(1, 2, 3)", "takes two values"),
        ("min(1)", "two values or more"),
        ("pow(2, 3)", "unknown function `pow`"),
        ("9223372036854775807 + 1", "does not fit 64 bits"),
        ("99999999999999999999", "does not fit 64 bits"),
    ],
)
def test_what_has_no_value(task, text, words):
    (message,) = messages(task, f"k<<<1, 1>>>(out, {text})")
    assert words in message


@pytest.mark.parametrize(
    ("launch", "words"),
    [
        ("k<<<0, 32>>>(out)", "grid size x is 0"),
        ("k<<<-1, 32>>>(out)", "grid size x is -1"),
        ("k<<<(1, 65536), 32>>>(out)", "grid size y is 65536; at most 65535"),
        ("k<<<2147483648, 32>>>(out)", "at most 2147483647"),
        ("k<<<1.5, 32>>>(out)", "a grid size must be a whole number"),
        ("k<<<1, (64, 17)>>>(out)", "a block of 1088 threads; at most 1024"),
        ("k<<<1, (1, 1, 65)>>>(out)", "block size z is 65; at most 64"),
        ("k<<<1, 32, 232449>>>(out)", "a block has at most 232448 on NVIDIA H200"),
        ("k<<<1, 32, -1>>>(out)", "-1 bytes of shared memory"),
        ("k<<<32, 32>>>(out) cluster=(32, 1, 1)", "1 to 16 blocks"),
        ("k<<<10, 32>>>(out) cluster=(4, 1, 1)", "no multiple of the cluster"),
        ("k<<<265, 1024>>>(out) cooperative", "at most 264 of this size are resident"),
        ("k<<<133, 32, 200000>>>(out) cooperative", "at most 132"),
        ("k<<<1, 32>>>(x)", "no launch takes the output `out`"),
    ],
)
def test_limits(task, launch, words):
    (message,) = messages(task, launch)
    assert words in message


def test_at_the_limits(task):
    plan(task, "k<<<(2147483647, 65535, 65535), (1024, 1, 1), 232448>>>(out)")
    plan(task, "k<<<264, 1024>>>(out) cooperative")
    plan(task, "k<<<32, 32>>>(out) cluster=(16, 1, 1)")


def test_clusters_need_the_hardware(task):
    facts = evolve(H200, compute_capability=(8, 0))
    (message,) = messages(task, "k<<<4, 32>>>(out) cluster=(2, 1, 1)", facts=facts)
    assert "compute capability 9.0" in message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("// scratch: x float32[2]", "`x` is a name of the task"),
        ("// scratch: sm_count float32[2]", "is a name of the task"),
        ("// scratch: p float32[0]", "sizes are positive"),
        ("// scratch: p float32[y.size(0)]", "no tensor `y`"),
        ("// scratch: p float32[100000000000]", "bytes; at most"),
    ],
)
def test_scratch(task, line, words):
    found = messages(task, "k<<<1, 32>>>(out, p)" if " p " in line else "k<<<1, 1>>>(out)", line)
    assert len(found) == 1
    assert words in found[0]


def test_a_name_is_its_tensor_even_where_a_call_is_meant(make_task):
    task = make_task(
        x=("input", "float32", (4,)),
        out__0=("output", "int64", (4,)),
        w__0=("buffer", "bool", (1,)),
    )
    result = plan(task, "k<<<1, out.0.size(0)>>>(w.0, out.0)")
    assert result.launches[0].block == (4, 1, 1)
    assert result.launches[0].arguments == (Pointer("w.0"), Pointer("out.0"))


def test_every_output_is_to_be_written(make_task):
    task = make_task(out__a=("output", "float32", (4,)), out__b=("output", "float32", (4,)))
    (message,) = messages(task, "k<<<1, 4>>>(out.a)")
    assert "`out.b`" in message


def test_a_type_is_no_number_in_an_expression(task):
    (message,) = messages(task, "k<<<1, T>>>(out)", "// tune: T = float4 | float2")
    assert "`T`" in message


def test_a_cooperative_grid_may_fill_more_than_kernels_are_told_of(task):
    few = evolve(H200, sm_count=4, cooperative_sms=132)
    plan(task, "k<<<264, 1024>>>(out) cooperative", facts=few)
    (message,) = messages(task, "k<<<265, 1024>>>(out) cooperative", facts=few)
    assert "at most 264 of this size" in message


def test_a_kernel_without_launches_gives_a_finding(task):
    kernel = evolve(parse("// launch: k<<<1, 4>>>(out)"), launches=())
    with pytest.raises(ContractError, match="there is no launch line"):
        resolve(kernel, task, H200)
