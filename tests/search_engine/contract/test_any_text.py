"""Whatever a model writes, the contract answers with findings and never with a traceback."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_engine.contract.check import check
from search_engine.contract.errors import ContractError
from search_engine.contract.parse import parse
from search_engine.hardware import H200
from search_engine.task import Task, TensorSpec
from search_engine.verdict import Finding

TASK = Task(
    path="", qualname="N", module_name="n", fingerprint="", inputs_from="comment",
    construction="", tensors=(
        TensorSpec("x", "input", "float32", (4,), (1,)),
        TensorSpec("out", "output", "float32", (4,), (1,)),
    ),
    scalars={}, mode="eval", policy="match", target="h200", flops=0, min_bytes=0,
    longest_reduction=1, limit_seconds=1e-6, limit_reason="", graph=None,
)  # fmt: skip
LINES = [
    "// launch: k<<<1, 32>>>(x, out)\n", "// scratch: p float32[2]\n", "// tune: N = 1 | 2\n",
    "#define K(n)\n", "#include <a>\n", "\n", "\\\n",
]  # fmt: skip
WORDS = """
    extern __global__ __device__ void float* k K ( ) { } < > <<< >> ; , = [ ] template struct
    operator namespace static const " ' /* */ // : :: asm 1 N x ??/ %: public int ~ decltype
    noexcept __launch_bounds__ auto -> using enum union R"( )"
"""
PIECES = st.sampled_from([*LINES, 'extern "C"', *WORDS.split()])


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=60).map(" ".join))
def test_any_pieces_of_cuda(text):
    judged("// launch: k<<<1, 32>>>(x, out)\n" + text)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.sampled_from(["launch", "scratch", "tune"]))
def test_any_line(text, keyword):
    judged(f"// {keyword}: {text}")


@pytest.mark.parametrize(
    "opening",
    ["(", "{", "[", "<", "template <", "struct {", "struct S { void f() {", "namespace {"],
)
def test_deep_nesting(opening):
    judged("// launch: k<<<1, 32>>>(x, out)\n" + opening * 2000)


def judged(source):
    try:
        kernel = parse(source)
    except ContractError as error:
        findings = error.findings
        assert findings
    else:
        findings = check(kernel, TASK, H200)
    lines = source.count("\n") + 1
    for finding in findings:
        assert isinstance(finding, Finding)
        assert finding.line is None or 1 <= finding.line <= lines
        assert finding.message
