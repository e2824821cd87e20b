"""Which classes of a file are modules with a ``forward``: through imports, aliases, bases."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Sequence

from kernel_lsp.classes import ModuleClass, Part

_MODULE = "torch.nn.Module"
# Bases from outside the file that are modules although torch.nn does not define them.
_KNOWN_MODULES = frozenset(
    {
        _MODULE,
        "lightning.LightningModule",
        "lightning.pytorch.LightningModule",
        "pytorch_lightning.LightningModule",
        "transformers.PreTrainedModel",
    }
)
_NO_MODULES = frozenset({"Parameter", "UninitializedParameter", "UninitializedBuffer", "Buffer"})
_NO_FORWARD = frozenset({_MODULE, "torch.nn.ModuleList", "torch.nn.ModuleDict"}) | _KNOWN_MODULES
# Where bases come from that are no modules: torch's are told by their names instead.
_NO_MODULE_SOURCES = frozenset({"torch"} | sys.stdlib_module_names)
_NO_MODULE_NAMES = frozenset(dir(builtins)) | {
    *("ABC", "Enum", "Function", "Generic", "IntEnum", "NamedTuple", "Protocol", "StrEnum"),
    *("TypedDict", "BaseModel", "Dataset", "Optimizer", "TestCase", "Module"),
}


def modules_of(parts: Sequence[Part]) -> frozenset[tuple[int, str]]:
    """Classes that are modules and have a ``forward``, as (index of the part, qualified name)."""
    classes: dict[str, ModuleClass] = {}
    where: dict[str, int] = {}
    names: dict[str, str] = {}
    stars: list[str] = []
    for index, part in enumerate(parts):
        for found in part.classes:
            classes[found.qualname] = found  # the last definition of a name counts
            where[found.qualname] = index
        names.update(part.imports)
        names.update(part.aliases)
        stars += part.stars
    resolver = _Resolver(classes, names, stars)
    return frozenset(
        (where[name], name)
        for name in classes
        if resolver.is_module(name) and resolver.has_forward(name)
    )


class _Resolver:
    """Answers what a class is through imports, aliases and bases in the same file."""

    def __init__(
        self, classes: dict[str, ModuleClass], names: dict[str, str], stars: Sequence[str]
    ) -> None:
        self._classes = classes
        self._names = names
        self._stars = stars
        self._ancestors: dict[str, frozenset[str]] = {}

    def is_module(self, qualname: str) -> bool:
        """Certain through torch's own classes; likely where a base comes from another file.

        Whether that one is a module is only known when the file is imported. With a
        ``forward``, which ``has_forward`` asks for, hardly anything else is.
        """
        ancestors = self.ancestors(qualname)
        return any(_is_torch_module(n) or self._is_elsewhere(n) for n in ancestors)

    def _is_elsewhere(self, name: str) -> bool:
        top, _, rest = name.partition(".")
        last = rest.rpartition(".")[2] or top
        return not (
            name in self._classes
            or top in _NO_MODULE_SOURCES
            or last in _NO_MODULE_NAMES
            or not last[:1].isupper()
        )

    def has_forward(self, qualname: str) -> bool:
        if self._classes[qualname].forward_line is not None:
            return True
        for name in self.ancestors(qualname):
            base = self._classes.get(name)
            if base is not None and base.forward_line is not None:
                return True
            if _is_torch_module(name) and name not in _NO_FORWARD:
                return True  # nn.Sequential, nn.Linear, … bring their own
        return False

    def ancestors(self, qualname: str) -> frozenset[str]:
        """Everything a class derives from: qualified names here, dotted names elsewhere."""
        known = self._ancestors.get(qualname)
        if known is not None:
            return known
        self._ancestors[qualname] = frozenset()  # a class may not be its own ancestor
        found: set[str] = set()
        for base in self._classes[qualname].bases:
            name = self._resolve(base, qualname)
            found.add(name)
            if name in self._classes and name != qualname:
                found |= self.ancestors(name)
        self._ancestors[qualname] = frozenset(found)
        return self._ancestors[qualname]

    def _resolve(self, base: str, inside: str) -> str:
        sibling = ".".join([*inside.split(".")[:-1], base])
        if sibling in self._classes and sibling != inside:
            return sibling
        if base in self._classes and base != inside:
            return base
        head, dot, rest = base.partition(".")
        seen: set[str] = set()
        while head in self._names and head not in seen:
            seen.add(head)
            base = self._names[head] + dot + rest
            head, dot, rest = base.partition(".")
        if base in self._classes and base != inside:
            return base
        if base.startswith("nn."):  # the import itself may be the line being typed
            return f"torch.{base}"
        if "." not in base and any(
            star in ("torch.nn", "torch.nn.modules") for star in self._stars
        ):
            return f"torch.nn.{base}"
        return base


def _is_torch_module(name: str) -> bool:
    if name in _KNOWN_MODULES:
        return True
    last = name.rpartition(".")[2]
    return name.startswith("torch.nn.") and last[:1].isupper() and last not in _NO_MODULES
