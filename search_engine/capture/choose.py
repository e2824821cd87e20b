"""Which class of the file is meant."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

import torch

from search_engine.errors import CaptureError


def choose(module: ModuleType, text: str, path: str, qualname: str | None) -> type[torch.nn.Module]:
    """The class asked for, else ``Model``, else the only root module of the file.

    A root is an ``nn.Module`` class that no other module class of the file mentions.
    Raises CaptureError that names the candidates.
    """
    file = Path(path).name
    found = _module_classes(module)
    if qualname is not None:
        return _named(module, found, qualname, file)
    if "Model" in found:
        return found["Model"]
    if not found:
        raise CaptureError(f"{file} defines no nn.Module class.")
    roots = _roots(text, set(found))
    if len(roots) == 1:
        return found[roots[0]]
    candidates = ", ".join(roots or found)
    raise CaptureError(f"{file} has several modules ({candidates}): say which, as {file}::Class.")


def _module_classes(module: ModuleType) -> dict[str, type[torch.nn.Module]]:
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, torch.nn.Module)
        and value.__module__ == module.__name__
    }


def _named(
    module: ModuleType, found: dict[str, type[torch.nn.Module]], qualname: str, file: str
) -> type[torch.nn.Module]:
    if "<locals>" in qualname:
        raise CaptureError(
            f"{qualname} is made inside a function: move the class to the top of {file}."
        )
    value: object = module
    for part in qualname.split("."):
        value = getattr(value, part, None)
    if isinstance(value, type) and issubclass(value, torch.nn.Module):
        return value
    if value is None:
        names = ", ".join(found) or "none"
        raise CaptureError(f"{file} defines no class {qualname}; its modules are: {names}.")
    raise CaptureError(f"{qualname} in {file} is no nn.Module class.")


def _roots(text: str, names: set[str]) -> list[str]:
    used: set[str] = set()
    order: list[str] = []
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.ClassDef) and statement.name in names:
            order.append(statement.name)
            mentioned = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name)}
            used |= mentioned - {statement.name}
    return [name for name in dict.fromkeys(order) if name not in used]
