"""Real scripts under the real torch: what is kept of their modules."""

import pytest

from search_engine.source import fingerprint

MODEL = """\
    import copy
    import dataclasses
    import enum

    import torch
    from torch import nn


    class Norm(enum.Enum):
        PRE = 1


    @dataclasses.dataclass
    class Config:
        width: int
        depth: int = 2
        norm: Norm = Norm.PRE
        dtype: torch.dtype = torch.float32
        act: type = nn.ReLU


    class Block(nn.Module):
        def __init__(self, config, act):
            super().__init__()
            self.l, self.act = nn.Linear(config.width, config.width), act()

        def forward(self, x, *, scale):
            return self.act(self.l(x)) * scale


    class Net(nn.Module):
        def __init__(self, config):
            super().__init__()
            self.e = nn.Embedding(100, config.width)
            block = Block(config, nn.GELU)
            self.blocks = nn.ModuleList(copy.deepcopy(block) for _ in range(config.depth))

        def forward(self, batch, mask=None):
            x = self.e(batch["ids"]) + batch["extra"][0]
            for block in self.blocks:
                x = block(x, scale=0.5)
            return x if mask is None else x * mask


    class Wrapped(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(x)


    class Unused(nn.Module):
        def forward(self, x):
            return x
"""
TRAIN = """\
    import torch
    from torch.utils.data import DataLoader

    from .model import Config, Net, Wrapped


    class Local(torch.nn.Module):
        def __init__(self, n=3):
            super().__init__()

        def forward(self, x):
            return x.transpose(0, 1) @ x.to(torch.float32)


    class Around(torch.nn.Module):
        def __init__(self, *inner):
            super().__init__()
            self.inner = inner[0]

        def forward(self, x):
            return self.inner(x)


    class Counted:
        def __new__(cls, n):
            made = super().__new__(cls)
            made.__dict__["made_with"] = n
            return made


    class Mixed(torch.nn.Module, Counted):
        def __init__(self, n):
            super().__init__()


    def main():
        torch.manual_seed(0)
        net = Net(Config(8, depth=3))
        optimizer = torch.optim.SGD(net.parameters(), 1e-3)
        data = [torch.randint(5, 60, (4,)) for _ in range(42)]
        for ids in DataLoader(data, batch_size=4, num_workers=2):
            batch = {"ids": ids, "extra": (torch.randn(4, 8),)} if len(ids) == 4 else {
                "ids": ids, "extra": [torch.randn(4, 8)]}
            loss = net(batch).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            for _ in range(3):
                net({"ids": torch.zeros(2, 4, dtype=torch.long), "extra": (torch.randn(4, 8),)})
        Local(n=4)(torch.randn(6, 5).t())
        Local(n=4)(torch.eye(3).to_sparse_csr())
        Wrapped(torch.nn.Linear(4, 4)).half().double()(torch.randn(2, 4).double())
        Around(Local(n=5), [1.5])(torch.randn(2, 2))
        torch.nn.Linear(3, 3)(torch.randn(1, 3))
        assert set(vars(net)) == set(vars(Net(Config(8)))), "nothing of ours is in a module"
        assert not torch.nn.modules.module._global_forward_pre_hooks
        import inspect

        assert list(inspect.signature(Net).parameters) == ["config"]
        assert Mixed(3).made_with == 3
        import io, pickle

        pickle.loads(pickle.dumps(net))({"ids": torch.zeros(1, 1).long(), "extra": [0.0]})
        raise RuntimeError("at the end")


    if __name__ == "__main__":
        main()
"""


@pytest.fixture
def recorded(project, run, capfd):
    project("pkg/__init__.py", "")
    project("pkg/model.py", MODEL)
    project("pkg/train.py", TRAIN)
    outcome, found = run("-m", "pkg.train")
    shown = capfd.readouterr().err
    assert (outcome.code, shown.splitlines()[-1]) == (1, "RuntimeError: at the end")
    assert "inside" not in shown
    return found


def test_a_training_run(recorded, project, tmp_path):
    assert set(recorded) == {"Net", "Block", "Wrapped", "Local", "Around"}
    path = tmp_path / "project" / "pkg" / "model.py"
    net, block = recorded["Net"], recorded["Block"]
    assert (net.path, net.command, net.device) == (str(path), "-m pkg.train", "cpu")
    assert net.fingerprint == fingerprint(path.read_text(), "Net")
    assert net.calls == 11 + 3 + 1
    assert net.graded == 11 + 1
    assert block.calls == 3 * net.calls
    call = "Net(Config(width=8, depth=3, norm=Norm.PRE, dtype=torch.float32, act=nn.ReLU))"
    first, second, third, *_ = net.variants
    assert first.description.startswith(f"{call}, batch={{'ids': int64[4, 4] in ")
    assert first.description.endswith(", 'extra': (float32[4, 8],)}")
    assert (first.calls, second.calls, third.calls) == (10, 3, 1)
    assert "int64[2, 4] in 0..0" in second.description
    assert "int64[2, 4] in " in third.description
    assert "[float32[4, 8]]" in third.description

    # The blocks are copies of one that was made in full.
    inputs = "x=float32[4, 4, 8], scale=0.5"
    blocks = block.variants[0]
    assert blocks.calls == 30
    assert blocks.description.endswith(f", nn.GELU), {inputs}")
    assert blocks.description.startswith("Block(Config(width=8")
    assert 0 < block.share <= net.share <= 1
    assert net.self_share < net.share
    assert 0 < net.seconds < 60

    local, _ = recorded["Local"].variants
    assert recorded["Local"].calls == 3, "the sparse one is counted"
    (around,) = recorded["Around"].variants
    assert around.description == "Around(Local(n=5), [1.5]), x=float32[2, 2]"
    assert local.description == "Local(n=4), x=float32[5, 6]"
    assert local.strides == {"x": (1, 5)}
    wrapped = recorded["Wrapped"]
    assert (wrapped.variants, wrapped.undescribed) == ((), "its argument 1 is a Linear")


def test_what_torch_compile_and_export_do_is_the_same_under_the_recorder(project, run, capfd):
    project(
        "net.py",
        """
        import torch
        from torch._dynamo.testing import CompileCounterWithBackend

        class Inner(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.l = torch.nn.Linear(4, 4)
            def forward(self, x):
                return self.l(x).relu()

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = Inner()
            def forward(self, x):
                return self.inner(x) + 1

        counter = CompileCounterWithBackend("eager")
        net = Net()
        compiled = torch.compile(net, backend=counter, fullgraph=True)
        with torch.no_grad():
            for _ in range(5):
                compiled(torch.randn(2, 4))
        assert counter.frame_count == 1
        torch.export.export(net, (torch.randn(3, 4),))
        torch.jit.trace(net, torch.randn(3, 4))
        torch.fx.symbolic_trace(net)
        torch.jit.script(Inner())
        """,
    )
    outcome, found = run("-W", "ignore", "net.py")
    assert outcome.code == 0, capfd.readouterr().err
    # What runs compiled is seen from outside only.
    assert found["Net"].variants[0].description == "Net(), x=float32[2, 4]"
    assert found["Net"].variants[0].calls == 5
    assert found["Net"].share is not None
