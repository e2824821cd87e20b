"""Pooling and other windows: a thread per output, held against torch in fp64."""

import pytest
from hypothesis import HealthCheck, settings

from search_engine.hardware import H200
from search_engine.playbook.analyse import analyse
from search_engine.playbook.idea import Variant
from search_engine.playbook.ideas.thread_per_output import ThreadPerOutput

IDEA = ThreadPerOutput()
few = settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def rendered(captured, **knobs) -> str:
    program = analyse(captured.task)
    assert IDEA.applies(program, H200)
    variant = Variant.of(**knobs)
    assert IDEA.valid(program, variant, H200), variant.label
    return IDEA.render(program, variant, H200)


def every_variant(captured) -> list[str]:
    program = analyse(captured.task)
    assert IDEA.applies(program, H200)
    found = [
        Variant.of(threads=64, outputs=outputs, along=along)
        for outputs in IDEA.knobs["outputs"][0]
        for along in IDEA.knobs["along"][0]
    ]
    return [IDEA.render(program, v, H200) for v in found if IDEA.valid(program, v, H200)]


POOLS = {
    "max": "F.max_pool2d(x, (3, 2), stride=(2, 1), padding=(1, 1), dilation=(1, 2))",
    "max, ceil": "F.max_pool2d(x, 3, stride=2, ceil_mode=True)",
    "average": "F.avg_pool2d(x, 3, stride=1, padding=1)",
    "average, ceil": "F.avg_pool2d(x, 2, stride=2, padding=1, ceil_mode=True)",
    "average, inside alone": "F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)",
    "average, divisor": "F.avg_pool2d(x, (2, 3), divisor_override=5)",
    "power": "F.lp_pool2d(x, 2.0, 2)",
    "adaptive": "F.adaptive_avg_pool2d(x, (3, 1)) + F.adaptive_max_pool2d(x.abs(), (3, 1))",
    "fused": "F.relu(F.max_pool2d(F.gelu(x) * 2, 3, stride=1, padding=1) + self.b)",
}


@pytest.mark.parametrize("name", POOLS)
def test_pools_of_images(take, agree, name):
    captured = take(
        "x=float32[2, 3, 9, 13]",
        f"return {POOLS[name]}",
        "self.b = nn.Parameter(torch.ones(3, 1, 1))",
    )
    agree(captured, every_variant(captured), draws=[("normal", 1)])
