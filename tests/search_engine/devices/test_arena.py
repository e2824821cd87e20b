"""The arena on CPU storage: layout, poison, red zones, inputs, outputs."""

from __future__ import annotations

import math

import pytest
import torch

from search_engine.contract.kernel import Number, Plan, Pointer, ResolvedLaunch, ResolvedScratch
from search_engine.devices.arena import Arena, lay_out
from search_engine.task import Task, TensorSpec


def make_task(*tensors: TensorSpec) -> Task:
    return Task(
        path="net.py", qualname="Net", module_name="net", fingerprint="f",
        inputs_from="get_inputs", construction="Net()", tensors=tensors, scalars={},
        mode="eval", policy="match", target="h200", flops=0, min_bytes=0,
        longest_reduction=1, limit_seconds=1e-6, limit_reason="DRAM", graph=None,
    )  # fmt: skip


def spec(name, shape, dtype="float32", role="input", stride=None):
    if stride is None:
        stride, step = [], 1
        for size in reversed(shape):
            stride.insert(0, step)
            step *= size
    return TensorSpec(name, role, dtype, tuple(shape), tuple(stride))


def make_plan(*names: str, scratch: tuple[ResolvedScratch, ...] = ()) -> Plan:
    arguments = (*(Pointer(n) for n in names), Number(3))
    launch = ResolvedLaunch("f", (1, 1, 1), (32, 1, 1), 0, arguments, False, None, 1)
    return Plan((launch,), scratch)


def make_arena(task: Task, plan: Plan, offset: int = 0) -> Arena:
    layout = lay_out(task, plan, offset=offset)
    return Arena(layout, torch.empty(Arena.size_of(layout), dtype=torch.uint8))


TASK = make_task(spec("x", (3, 5)), spec("unused", (7,)), spec("out", (3, 5), role="output"))
PLAN = make_plan(
    "x", "partial", "count", "out",
    scratch=(
        ResolvedScratch("partial", "float32", (4, 2), False, 1),
        ResolvedScratch("count", "int32", (3,), True, 2),
    ),
)  # fmt: skip


def test_only_what_a_kernel_can_reach_is_laid_out():
    names = [b.name for b in lay_out(TASK, PLAN).buffers]
    assert names == ["x", "out", "partial", "count"]


@pytest.mark.parametrize("offset", [0, 1, 5, 15])
def test_addresses_are_aligned_to_16_bytes_and_no_more_than_the_offset_says(offset):
    arena = make_arena(TASK, PLAN, offset)
    for buffer in arena.layout.buffers:
        assert arena.pointer(buffer.name) % 256 == 16 * offset


def test_zones_cover_all_that_no_buffer_covers():
    layout = lay_out(TASK, PLAN, offset=3)
    covered = sum(end - start for start, end in layout.zones()) + sum(
        b.nbytes for b in layout.buffers
    )
    assert covered == layout.nbytes
    assert all(end - start >= 256 for start, end in layout.zones())


def test_untouched_run_copies_inputs_poisons_the_rest_and_finds_nothing():
    arena = make_arena(TASK, PLAN)
    x = torch.randn(3, 5)
    arena.place({"x": x})
    assert torch.equal(arena.view("x"), x)
    assert arena.view("x").data_ptr() != x.data_ptr()
    assert arena.view("partial").isnan().all()
    assert (arena.view("count") == 0).all()
    assert arena.outputs()["out"].isnan().all()
    assert arena.findings() == ()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_poison_and_red_zones_read_as_nan_in_every_float(dtype):
    task = make_task(spec("out", (3,), dtype, role="output"))
    arena = make_arena(task, make_plan("out"))
    arena.place({})
    buffer = arena.layout.buffer("out")
    assert arena.view("out").isnan().all()
    start = arena.offset_of("out") - 64
    before = arena._bytes[buffer.start - 64 : buffer.start].view(buffer.torch_dtype)
    assert start > 0
    assert before.isnan().all()


@pytest.mark.parametrize(
    ("shift", "side"), [(0, "1 bytes past the end"), (-61, "1 bytes before the start")]
)
def test_a_byte_outside_is_found_with_buffer_side_and_distance(shift, side):
    arena = make_arena(TASK, PLAN)
    arena.place({"x": torch.randn(3, 5)})
    buffer = arena.layout.buffer("out")  # 60 bytes
    arena._bytes[buffer.end + shift] ^= 1
    (finding,) = arena.findings()
    assert finding.check == "red-zone"
    assert finding.place == f"out, {side}"


def test_overrun_is_one_finding_with_its_reach():
    arena = make_arena(TASK, PLAN)
    arena.place({"x": torch.randn(3, 5)})
    end = arena.layout.buffer("partial").end
    arena._bytes[end + 4 : end + 12] = 0
    (finding,) = arena.findings()
    assert finding.place == "partial, 5 bytes past the end"
    assert "8 bytes were written" in finding.message
    assert "12 bytes" in finding.message


def test_a_changed_input_is_named_with_its_place_even_where_it_became_nan():
    arena = make_arena(TASK, PLAN)
    arena.place({"x": torch.full((3, 5), math.nan)})
    assert arena.findings() == ()  # NaN in the input is no change
    arena.view("x")[1, 2] = -0.0
    (finding,) = arena.findings()
    assert (finding.check, finding.place) == ("input-changed", "x[1, 2]")


@pytest.mark.parametrize(
    "source",
    [
        torch.randn(4, 6).t(),
        torch.randn(1, 6).expand(4, 6),
        torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        torch.randn(8, 6)[::2],
        torch.tensor(2.5),
        torch.empty(0, 3),
    ],
    ids=["transposed", "expanded", "channels_last", "gaps", "0-dim", "empty"],
)
def test_inputs_lie_with_the_strides_of_the_task(source):
    task = make_task(spec("x", source.shape, stride=source.stride()))
    arena = make_arena(task, make_plan("x"))
    arena.place({"x": source})
    assert arena.view("x").shape == source.shape
    assert torch.equal(arena.view("x"), source)
    if source.numel():
        assert arena.view("x").stride() == source.stride()
    assert arena.findings() == ()


def test_outputs_keep_their_strides_and_are_copies():
    task = make_task(spec("out", (2, 3, 4), role="output", stride=(12, 1, 3)))
    arena = make_arena(task, make_plan("out"))
    arena.place({})
    arena.view("out").copy_(torch.arange(24.0).reshape(2, 3, 4))
    out = arena.outputs()["out"]
    arena.view("out").zero_()
    assert out.stride() == (12, 1, 3)
    assert torch.equal(out, torch.arange(24.0).reshape(2, 3, 4))


def test_a_bool_output_that_was_not_written_is_a_finding():
    task = make_task(spec("out", (4,), "bool", role="output"))
    arena = make_arena(task, make_plan("out"))
    arena.place({})
    arena.view("out")[:2] = True
    (finding,) = arena.findings()
    assert (finding.check, finding.place) == ("bool-bytes", "out[2]")
    assert arena.outputs()["out"].dtype == torch.bool


def test_a_wrong_shape_is_refused():
    arena = make_arena(TASK, PLAN)
    with pytest.raises(ValueError, match="the task says"):
        arena.place({"x": torch.randn(3, 6)})


def test_a_second_placement_repairs_what_the_first_run_broke():
    arena = make_arena(TASK, PLAN)
    arena.place({"x": torch.randn(3, 5)})
    arena._bytes.zero_()
    assert arena.findings()
    arena.place({"x": torch.randn(3, 5)})
    assert arena.findings() == ()
