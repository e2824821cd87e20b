"""Every offered variant of tiled contractions keeps the contract and compiles, without a GPU."""

import pytest

from search_engine.contract.check import check
from search_engine.contract.parse import parse
from search_engine.hardware import H200
from search_engine.playbook.analyse import analyse
from search_engine.playbook.ideas import ALL

TASKS = {
    "matmul": ("x=float32[512, 512], w=float32[512, 512]", "return x @ w", "pass", "x, w"),
    "linear, bf16": (
        "x=bfloat16[4, 300, 256]",
        "return F.gelu(self.l(x))",
        "self.l = nn.Linear(256, 1000).bfloat16()",
        "x",
    ),
    "first convolution": (
        "x=float32[8, 3, 64, 64]",
        "return self.c(x)",
        "self.c = nn.Conv2d(3, 96, 11, stride=4, padding=2)",
        "x",
    ),
    "block": (
        "x=float32[8, 64, 28, 28]",
        "return F.relu(self.b(self.c(x)) + x)",
        "self.c = nn.Conv2d(64, 64, 3, padding=1)\nself.b = nn.BatchNorm2d(64)",
        "x",
    ),
    "skinny": ("x=float32[8, 4096], w=float32[4096, 128]", "return x @ w", "pass", "x, w"),
}


@pytest.fixture(scope="session")
def ampere(nvrtc):
    """The same compiler for sm_80."""
    core = pytest.importorskip("cuda.core")
    pathfinder = pytest.importorskip("cuda.pathfinder")
    include = pathfinder.find_nvidia_header_directory("cudart")
    options = core.ProgramOptions(
        arch="sm_80", std="c++17", include_path=[include, f"{include}/cccl"]
    )
    return lambda source: core.Program(source, "c++", options).compile("cubin").code


@pytest.mark.parametrize("name", sorted(TASKS))
def test_variants_keep_the_contract_and_compile(take, nvrtc, ampere, name):
    task = take(*TASKS[name]).task
    program = analyse(task)
    tiled = [i for i in ALL if i.key.startswith(("tile_reg", "tile_ten"))]
    applicable = [idea for idea in tiled if idea.applies(program, H200)]
    assert applicable
    for idea in applicable:
        assert idea.why(program, H200)
        for position, variant in enumerate(idea.variants(program, H200)[:2]):
            source = idea.render(program, variant, H200)
            assert check(parse(source), task, H200) == []
            assert max(len(line) for line in source.splitlines() if "// launch" not in line) <= 110
            assert nvrtc(source)
            if position == 0:
                assert ampere(source)
