import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search_engine.deliver.delivery import Delivery
from search_engine.deliver.edit import apply, insert, is_applied, remove
from search_engine.errors import DeliveryError
from search_engine.source import fingerprint, split_lines


def delivery(text: str, qualname: str = "Net", *, relative: bool = False) -> Delivery:
    name = qualname.replace(".<locals>", "").replace(".", "_")
    found = fingerprint(text, qualname)
    assert found is not None
    return Delivery(
        qualname=qualname,
        fingerprint=found,
        files={},
        import_line=f"from {'.' * relative}net_cuda.{name} import {name}_cuda",
        decorator_line=f"@{name}_cuda",
        title="t",
        rationale="r",
        summary="s",
    )


PLAIN = '''\
"""A file."""

from __future__ import annotations

import torch
from torch import nn

WIDTH = 4


class Net(nn.Module):
    def forward(self, x):
        return x
'''

FILES = {
    "plain": PLAIN,
    "no imports": "class Net:\n    pass\n",
    "no imports, blank lines first": "\n\n\nclass Net:\n    pass\n",
    "docstring": '"""Doc\nover lines."""\n\n\nclass Net:\n    pass\n',
    "docstring and code in a line": '"""Doc."""; a = (\n1)\nclass Net:\n    pass\n',
    "future only": "from __future__ import annotations\nclass Net:\n    x: int\n",
    "licence": "# Copyright\n# Licence\n\nclass Net:\n    pass\n",
    "shebang and comment": (
        "#!/bin/python\n# -*- coding: utf-8 -*-\n# kernel-lsp: Net()\nclass Net:\n    pass\n"
    ),
    "comment first": "# kernel-lsp: Net(), x=float32[4]\nclass Net:\n    pass\n",
    "semicolons": "import os; import sys; A = [\n  1,\n]\nclass Net:\n    pass\n",
    "parenthesised import": "from os import (\n    path,\n    sep,\n)\n\n\nclass Net:\n    pass\n",
    "continued import": "from os import path, \\\n    sep\nclass Net:\n    pass\n",
    "guarded imports": (
        "import torch\nfrom typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import json\n"
        "try:\n    import triton\nexcept ImportError:\n    triton = None\n\nimport math\n\n\n"
        "class Net(torch.nn.Module):\n    pass\n"
    ),
    "only guarded": (
        "try:\n    import torch\nexcept ImportError:\n    torch = None\n\n\nclass Net:\n    pass\n"
    ),
    "relative imports": "import torch\n\nfrom . import other\n\n\nclass Net:\n    a = other\n",
    "in an if": "import os\nif os:\n\tclass Net:\n\t\tpass\nelse:\n\tNet = None\n",
    "other decorators": "import a\n@a.b(\n  1\n)\n# why\n@a.c\nclass Net:\n    pass\n",
    "form feed": "import a\n\x0c\nclass Other:\n    pass\n\x0cclass Net:\n    s = '\x0c\u2028'\n",
    "no end of line": "import a\nclass Net: pass",
    "non-ASCII": "import a\n# ünïcödé 😀\nclass Net:\n    é = '😀'\n",
    "defined twice": "import a\nclass Net:\n    b = 1\nclass Net:\n    b = 2\n",
    "comment behind imports": "import a  # why\n# Constants\nB = 1\nclass Net:\n    pass\n",
}  # fmt: skip


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", FILES)
def test_in_and_out_is_the_identity(name, ending, relative):
    text = FILES[name].replace("\n", ending)
    offer = delivery(text, relative=relative)
    assert not is_applied(text, offer)
    edited = apply(text, insert(text, offer))
    assert is_applied(edited, offer)
    assert fingerprint(edited, "Net") == offer.fingerprint
    added = [line for line in split_lines(edited) if "net_cuda" in line or "Net_cuda" in line]
    assert len(added) == 2
    assert all(line.endswith(ending) for line in added)
    blank = len(edited) - len(text) - sum(map(len, added))
    assert blank in ((0, len(ending)) if relative else (0,))
    assert insert(edited, offer) == []
    assert apply(edited, remove(edited, offer)) == text


def test_the_two_lines_stand_where_they_belong():
    offer = delivery(PLAIN)
    edited = apply(PLAIN, insert(PLAIN, offer)).splitlines()
    assert edited[edited.index("from torch import nn") + 1] == offer.import_line
    assert edited[edited.index("class Net(nn.Module):") - 1] == "@Net_cuda"


def test_never_into_a_guarded_import():
    text = FILES["guarded imports"]
    tree = ast.parse(apply(text, insert(text, delivery(text))))
    assert [type(node).__name__ for node in tree.body[:3]] == ["Import", "ImportFrom", "ImportFrom"]


def test_in_a_package_a_sorter_has_nothing_to_mend():
    text = ruff(PLAIN)
    edited = apply(text, insert(text, delivery(text, relative=True)))
    assert ruff(edited) == edited


def test_nearest_to_the_class_with_its_indentation():
    text = FILES["other decorators"]
    lines = apply(text, insert(text, delivery(text))).splitlines()
    assert lines[lines.index("class Net:") - 1] == "@Net_cuda"
    text = FILES["in an if"]
    assert "\t@Net_cuda\n\tclass Net" in apply(text, insert(text, delivery(text)))


@pytest.mark.parametrize("qualname", ["Outer.Net", "build.<locals>.Net"])
def test_nested_classes(qualname):
    text = "import a\nclass Outer:\n  class Net:\n    b = 1\ndef build():\n  class Net: b = 2\n"
    offer = delivery(text, qualname)
    edited = apply(text, insert(text, offer))
    assert fingerprint(edited, qualname) == offer.fingerprint
    assert apply(edited, remove(edited, offer)) == text


# --- after formatters -----------------------------------------------------------------


def run_ruff(*arguments: str, text: str | None = None) -> str:
    for command in (["check", "--select", "I", "--fix-only", "-q"], ["format", "-q"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", *arguments],
            input=text, capture_output=True, text=True, check=True,
        )  # fmt: skip
        text = done.stdout if text is not None else None
    return text or ""


def ruff(text: str) -> str:
    return run_ruff("--stdin-filename", "net.py", "-", text=text)


# ruff moves a form feed, and a comment under the shebang away from the class once an import
# stands between them.
UNSTABLE = {"form feed", "docstring and code in a line", "shebang and comment"}


@pytest.fixture(scope="module")
def formatted(tmp_path_factory):
    """ruff over all files in one go: text by (name, whether in a package, which of the two)."""
    folder = tmp_path_factory.mktemp("formatted")
    texts = {}
    for name in FILES.keys() - UNSTABLE:
        for relative in (False, True):
            text = FILES[name]
            offer = delivery(text, relative=relative)
            texts[name, relative, "original"] = text
            texts[name, relative, "applied"] = apply(text, insert(text, offer))
    paths = {key: folder / f"{number}.py" for number, key in enumerate(texts)}
    for key, path in paths.items():
        path.write_text(texts[key])
    run_ruff(str(folder))
    return {key: path.read_text() for key, path in paths.items()}


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("name", sorted(FILES.keys() - UNSTABLE))
def test_out_again_after_ruff_is_the_formatted_original(formatted, name, relative):
    applied = formatted[name, relative, "applied"]
    offer = delivery(FILES[name], relative=relative)
    assert is_applied(applied, offer)
    assert apply(applied, remove(applied, offer)) == formatted[name, relative, "original"]


IMPORTS = ("import os", "import torch", "from torch import nn", "from . import a", "# about b",
           "import zlib  # why", "from os import (\n    path,\n)", "")  # fmt: skip
BEHIND = ("", "A = 1", "# note", "\n\n", "def f():\n    return 1", "if 1:\n    import json")
ABOVE = ("", "# kernel-lsp: Net()", "@deco", "@deco(1)\n@other", "\n\n\n")


@st.composite
def files(draw):
    head = draw(st.sampled_from(["", '"""Doc."""', "# Licence\n", "#!/bin/env python", "\n"]))
    future = draw(st.sampled_from(["", "from __future__ import annotations"]))
    imports = draw(st.lists(st.sampled_from(IMPORTS), max_size=4))
    behind = draw(st.lists(st.sampled_from(BEHIND), max_size=2))
    above = draw(st.sampled_from(ABOVE))
    body = "class Net(Base):\n    a = 1\n"
    if draw(st.booleans()):
        above, body = textwrap.indent(above, "  "), textwrap.indent(body, "  ")
        above = "if cond:\n" + above
    return "\n".join([head, future, *imports, *behind, above, body])


@settings(max_examples=200, deadline=None)
@given(files(), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_identity_for_any_file(text, relative, ending):
    text = text.replace("\n", ending)
    offer = delivery(text, relative=relative)
    edited = apply(text, insert(text, offer))
    assert is_applied(edited, offer)
    assert apply(edited, remove(edited, offer)) == text


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(files(), st.booleans())
def test_formatted_original_for_any_file(text, relative):
    # Sorted first: to a sorter that moves comments, an import more can matter.
    text = ruff(text)
    offer = delivery(text, relative=relative)
    formatted = ruff(apply(text, insert(text, offer)))
    assert apply(formatted, remove(formatted, offer)) == text


HERE = Path(__file__).parents[3]
REAL = [
    path
    for path in sorted(
        [*HERE.glob("search_engine/**/*.py"), *Path(textwrap.__file__).parent.glob("*.py")]
    )
    if path.stat().st_size < 60_000
]


@pytest.mark.parametrize("path", REAL[:: max(1, len(REAL) // 40)], ids=lambda path: path.name)
def test_identity_in_real_files(path):
    text = path.read_bytes().decode()
    tree = ast.parse(text)
    for node in [node for node in tree.body if isinstance(node, ast.ClassDef)][:3]:
        offer = delivery(text, node.name)
        edited = apply(text, insert(text, offer))
        assert apply(edited, remove(edited, offer)) == text


@pytest.mark.parametrize(
    ("statement", "left"),
    [
        ("from net_cuda.Net import Net_cuda, x", "from net_cuda.Net import x"),
        ("from net_cuda.Net import a, Net_cuda", "from net_cuda.Net import a"),
        ("from net_cuda.Net import a, Net_cuda, x  # y", "from net_cuda.Net import a, x  # y"),
        ("from net_cuda.Net import (\n    Net_cuda,\n)", ""),
        (
            "from net_cuda.Net import (\n    Net_cuda,  # ours\n    x,\n)",
            "from net_cuda.Net import (\n    x,\n)",
        ),
        (
            "from net_cuda.Net import (\n    a,\n    Net_cuda\n)",
            "from net_cuda.Net import (\n    a\n)",
        ),
        ("import b; from net_cuda.Net import Net_cuda", "import b"),
        ("from net_cuda.Net import Net_cuda; import b", "import b"),
        ("é = 1; from net_cuda.Net import Net_cuda; import b", "é = 1; import b"),
        ("from net_cuda.Net import Net_cuda  # noqa: I001", ""),
    ],
)
def test_merged_imports(statement, left):
    text = "import a\n{}class Net:\n    pass\n"
    offer = delivery(text.format(""))
    edited = text.format(f"{statement}\n").replace("class", "@Net_cuda  # fast\nclass")
    assert is_applied(edited, offer)
    assert apply(edited, remove(edited, offer)) == text.format(left and f"{left}\n")


def test_a_sorted_import_leaves_the_others_alone():
    ours = "from net_cuda.Net import Net_cuda\n"
    text = f"import a\n\n{ours}from zoo import b\n\n\nclass Net:\n    c = 1\n"
    offer = delivery(text)
    applied = text.replace("class", "@Net_cuda\nclass")
    expected = text.replace(ours, "")
    assert apply(applied, remove(applied, offer)) == expected


def test_an_import_that_serves_something_else_stays():
    offer = delivery(PLAIN)
    edited = apply(PLAIN, insert(PLAIN, offer)) + "\n\nclass Mine(Net):\n    fast = Net_cuda\n"
    left = apply(edited, remove(edited, offer))
    assert offer.import_line in left
    assert "@Net_cuda" not in left


# --- refusals -------------------------------------------------------------------------


def test_refuses_what_is_no_longer_there():
    offer = delivery(PLAIN)
    with pytest.raises(DeliveryError, match="changed since its kernel was verified"):
        insert(PLAIN.replace("return x", "return x + 1"), offer)
    with pytest.raises(DeliveryError, match="no class Net any more"):
        insert(PLAIN.replace("class Net", "class Other"), offer)
    with pytest.raises(DeliveryError, match="syntax error in line 13"):
        insert(PLAIN.replace("return x", "return ("), offer)
    with pytest.raises(DeliveryError, match="Line 8 already gives the name Net_cuda"):
        insert(PLAIN.replace("WIDTH", "Net_cuda"), offer)
    with pytest.raises(DeliveryError, match="nothing to revert"):
        remove(PLAIN, offer)


def test_revert_works_after_the_class_was_edited():
    offer = delivery(PLAIN)
    edited = apply(PLAIN, insert(PLAIN, offer))
    changed, wanted = (t.replace("return x", "return x + 1") for t in (edited, PLAIN))
    assert apply(changed, remove(changed, offer)) == wanted


def test_applied_is_told_in_a_broken_buffer_too():
    offer = delivery(PLAIN)
    edited = apply(PLAIN, insert(PLAIN, offer)) + "def broken(:\n"
    assert is_applied(edited, offer)
    assert not is_applied(PLAIN + "def broken(:\n", offer)
