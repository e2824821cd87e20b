import pytest

from search_engine.task import Task, TensorSpec


def _strides(shape):
    strides, step = [], 1
    for size in reversed(shape):
        strides.insert(0, step)
        step *= size
    return tuple(strides)


@pytest.fixture
def make_task():
    """A task from ``name=(role, dtype, shape)`` and forward's scalars."""

    def make(scalars=None, **tensors):
        specs = tuple(
            TensorSpec(name.replace("__", "."), role, dtype, shape, _strides(shape))
            for name, (role, dtype, shape) in tensors.items()
        )
        return Task(
            path="/project/net.py",
            qualname="Net",
            module_name="net",
            fingerprint="",
            inputs_from="comment",
            construction="Net()",
            tensors=specs,
            scalars=scalars or {},
            mode="eval",
            policy="match",
            target="h200",
            flops=0,
            min_bytes=0,
            longest_reduction=1,
            limit_seconds=1e-6,
            limit_reason="DRAM",
            graph=None,
        )

    return make


@pytest.fixture
def task(make_task):
    """LayerNorm over 1,000 columns of 16 rows, with a scalar argument."""
    return make_task(
        {"alpha": 0.5, "flag": True, "count": 3},
        x=("input", "float32", (16, 1000)),
        ln__weight=("parameter", "float32", (1000,)),
        out=("output", "float32", (16, 1000)),
    )
