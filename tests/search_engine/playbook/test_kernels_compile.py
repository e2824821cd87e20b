"""Every variant keeps the contract and compiles for Hopper, without a GPU."""

import pytest

from search_engine.contract.check import check
from search_engine.contract.parse import parse
from search_engine.hardware import H200
from search_engine.playbook.analyse import analyse
from search_engine.playbook.ideas import ALL

TASKS = {
    "chain": (
        "x=float16[64, 1000]",
        "return F.gelu(x) * self.w",
        "self.w = nn.Parameter(torch.ones(1000))",
    ),
    "softmax": ("x=float32[300, 65536]", "return x.softmax(-1)", "pass"),
    "layer_norm": ("x=float32[2, 300000]", "return self.n(x)", "self.n = nn.LayerNorm(300000)"),
    "rms_norm": (
        "x=bfloat16[300, 1024]",
        "return self.n(x)",
        "self.n = nn.RMSNorm(1024).bfloat16()",
    ),
    "places": ("x=float32[300, 4096]", "return x.max(1)[1], x.sum(1), x.norm(p=3, dim=1)", "pass"),
    "integers": ("x=int64[64, 5000]", "return x.sum(1), x.argmin(1), x.prod(1)", "pass"),
    "apart": ("x=float32[50000, 40]", "return x.std(0), x.argmax(0)", "pass"),
    "total": ("x=float16[3000, 3000]", "return x.norm(), (x > 0).any()", "pass"),
    "scan": ("x=bfloat16[300, 4096]", "return x.cumsum(1) * x", "pass"),
    "triangle": ("x=float32[300, 300]", "return x.tril(2).softmax(1)", "pass"),
    "groups": (
        "x=float32[4, 16, 20, 20]",
        "return F.group_norm(x, 4, self.w, self.w).tanh()",
        "self.w = nn.Parameter(torch.ones(16))",
    ),
    "columns": ("x=float32[8, 64, 300]", "return x.log_softmax(1)", "pass"),
}


@pytest.mark.parametrize("name", sorted(TASKS))
def test_variants_keep_the_contract_and_compile(take, nvrtc, name):
    inputs, forward, init = TASKS[name]
    task = take(inputs, forward, init).task
    program = analyse(task)
    applicable = [idea for idea in ALL if idea.applies(program, H200)]
    assert applicable
    for idea in applicable:
        # Headers of cooperative groups take a second to compile: one variant stands for all.
        most = 1 if idea.key == "chip_as_buffer" else 3
        for variant in idea.variants(program, H200)[:most]:
            source = idea.render(program, variant, H200)
            assert check(parse(source), task, H200) == []
            assert nvrtc(source)


def test_the_grid_follows_the_leading_dimension(take):
    """The cpu device checks big tasks at a smaller one, with the same text."""
    small, large = (
        analyse(take(f"x=float32[{n}, 3000]", "return x.softmax(-1) * 2").task) for n in (3, 48)
    )
    for idea in ALL:
        if idea.applies(small, H200) and idea.applies(large, H200):
            variant = idea.variants(small, H200)[0]
            assert idea.render(small, variant, H200) == idea.render(large, variant, H200)


def test_lines_of_generated_code_stay_readable(take):
    inputs, forward, init = TASKS["layer_norm"]
    program = analyse(take(inputs, forward, init).task)
    for idea in ALL:
        if idea.applies(program, H200):
            source = idea.render(program, idea.variants(program, H200)[0], H200)
            code = [line for line in source.splitlines() if "// launch" not in line]
            assert max(map(len, code)) <= 110
