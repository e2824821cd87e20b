from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_engine.capture.comment import TensorInput, inputs_known, parse_comment
from search_engine.capture.skeleton import skeleton
from search_engine.errors import CaptureError

FILE = """\
import torch.nn as nn

# Scales the input.
# kernel-lsp: Net(512, bias=True), x=float32[16, 64 * 2], scale=0.5
@decorated
class Net(nn.Module):
    pass
"""


def one(comment: str):
    found = parse_comment(f"# kernel-lsp: {comment}\nclass Net: pass\n", "Net")
    assert len(found) == 1
    return found[0]


def test_constructor_tensor_and_scalar():
    (found,) = parse_comment(FILE, "Net")
    assert found.line == 4
    assert found.call == "Net(512, bias=True)"
    assert found.inputs == {"x": TensorInput("float32", (16, 128)), "scale": 0.5}


def test_bounds_aliases_and_literals():
    found = one("i=long[32] in 0..99, p=half[2] in 0.5..1e3, m=None, causal=True, how='a, b'")
    assert found.call is None
    assert found.inputs == {
        "i": TensorInput("int64", (32,), 0, 99),
        "p": TensorInput("float16", (2,), 0.5, 1000.0),
        "m": None,
        "causal": True,
        "how": "a, b",
    }


def test_scalar_tensors_have_no_sizes():
    assert one("x=float32[]").inputs == {"x": TensorInput("float32", ())}


def test_several_descriptions_and_continued_lines():
    text = (
        "# kernel-lsp: Net((1,\n#   2)), x=float32[4],\n#   y=float32[4]\n"
        "# kernel-lsp: x=float32[8], y=float32[8]\n\nclass Net: pass\n"
    )
    first, second = parse_comment(text, "Net")
    assert first.call == "Net((1, 2))"
    assert set(first.inputs) == {"x", "y"}
    assert (second.line, second.call) == (4, None)


def test_comment_of_another_class_is_not_taken():
    text = "# kernel-lsp: x=float32[4]\nclass A: pass\n\nclass B: pass\n"
    assert parse_comment(text, "A")
    assert parse_comment(text, "B") == ()


@pytest.mark.parametrize(
    ("comment", "part"),
    [
        ("x=float33[4]", "`float33` is no dtype"),
        ("x=float32[a]", "`a` in `x` is no size"),
        ("x=float32[-1]", "is no size"),
        ("x=float32[?]", "replace the `?`"),
        ("Net(dim=?), x=float32[4]", "replace the `?`"),
        ("x=float32[4", "not closed"),
        ("x=float32 4]", "closes nothing"),
        ("x=float32[4], x=float32[4]", "given twice"),
        ("x=int64[4] in 9..0", "wrong way round"),
        ("x=int64[4] in 0..n", "bound `n`"),
        ("x=float32[4], Net(3)", "expected `name=float32[sizes]`"),
        ("x=torch.ones(3)", "neither a tensor"),
        ("", "write the inputs"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(comment, part):
    text = f"\n# kernel-lsp: {comment}\nclass Net: pass\n"
    with pytest.raises(CaptureError, match=r"^Line 2: ") as caught:
        parse_comment(text, "Net")
    assert part in str(caught.value)


def test_inputs_known():
    assert inputs_known(FILE, "Net")
    assert not inputs_known(FILE, "Other")
    model = "class Model: pass\nclass Block: pass\ndef get_inputs(): return []\n"
    assert inputs_known(model, "Model")
    assert not inputs_known(model, "Block")  # get_inputs() speaks of Model
    assert inputs_known(model.replace("Model", "Net"), "Block")
    assert not inputs_known("class A: pass\n", "A")


BROKEN = """\
class Outer:
    class Net(nn.Module):
        def __init__(self, dim: int, heads=8, *, act=nn.GELU, bias: bool = True):
            super().__init__()
            self.conv = nn.Conv2d(3, dim, 3

        def forward(
            self, x: torch.Tensor, token_ids, attention_mask, scale: float, eps=1e-5, cache=None
        ):
            return (x
"""


def test_skeleton_tells_what_it_can_and_marks_the_rest():
    assert skeleton(BROKEN, "Outer.Net") == (
        "    # kernel-lsp: Net(dim=?, heads=8, bias=True), x=float32[?, ?, ?, ?], "
        "token_ids=int64[?] in 0..?, attention_mask=bool[?], scale=?, eps=1e-05"
    )


def test_skeleton_only_where_it_helps():
    assert skeleton(FILE, "Net") is None
    assert skeleton(FILE, "Missing") is None
    assert skeleton("class A(nn.Module): pass\n", "A") == "# kernel-lsp: A(), x=float32[?]"


def test_an_untouched_skeleton_asks_to_be_completed():
    text = "class A(nn.Module):\n    def forward(self, x): return x\n"
    line = skeleton(text, "A")
    assert inputs_known(f"{line}\n{text}", "A")
    with pytest.raises(CaptureError, match=r"Line 1: replace the `\?`"):
        parse_comment(f"{line}\n{text}", "A")


names = st.from_regex(r"[a-z]{1,6}", fullmatch=True).filter(lambda n: n not in ("in",))
tensors = st.builds(
    lambda dtype, shape: (f"{dtype}{shape}", TensorInput(dtype, tuple(shape))),
    st.sampled_from(["float32", "int64", "bool", "bfloat16"]),
    st.lists(st.integers(0, 10**6), max_size=5),
)
literals = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none()
).map(lambda value: (repr(value), value))


@given(st.dictionaries(names, st.one_of(tensors, literals), min_size=1, max_size=5))
def test_what_is_written_is_read(inputs):
    comment = ", ".join(f"{name}={text}" for name, (text, _) in inputs.items())
    assert one(comment).inputs == {name: value for name, (_, value) in inputs.items()}


@given(st.text(alphabet="()[]{}=?, .'Netx0.9in#", max_size=60), st.text(max_size=40))
def test_any_comment_in_any_file_gives_an_answer_or_a_sentence(comment, rest):
    text = f"# kernel-lsp:{comment}\nclass Net(nn.Module):\n    {rest}"
    assert inputs_known(text, "Net")
    assert skeleton(text, "Net") is None
    message = "Line 1: "
    with contextlib.suppress(CaptureError):
        try:
            assert parse_comment(text, "Net")
        except CaptureError as error:
            message = str(error)
            raise
    assert message.startswith("Line 1: ")


def test_no_torch_is_imported():
    code = (
        "import sys, search_engine.capture.comment, search_engine.capture.skeleton, "
        "search_engine.capture.limit; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
