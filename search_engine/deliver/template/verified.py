"""What was verified of a module: the plain values that a delivered file is filled with."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch


class Launch(NamedTuple):
    """One kernel launch. Arguments are tensor names, or scalars as (C type, value)."""

    function: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int  # bytes of dynamic shared memory
    arguments: tuple[Any, ...]
    cooperative: bool = False
    cluster: tuple[int, int, int] | None = None


class Constant(NamedTuple):
    """A Python value that forward returns beside its tensors."""

    value: Any


class Container(NamedTuple):
    """What forward returns its tensors in, made of names of outputs, constants and containers.

    ``kind`` is "tuple", "list" or "dict"; or for the class ``qualname`` of ``module`` (the
    user's own file where that is empty) how it takes its items: "items" by position,
    "fields" by keyword, "mapping" as a dict, "sequence" as one list.
    """

    kind: str
    items: tuple[Any, ...]
    keys: tuple[Any, ...] = ()
    module: str = ""
    qualname: str = ""


class KernelFile(NamedTuple):
    """A kernel's source beside this file, and a compiled form of it where it includes headers."""

    name: str
    digest: str  # of the text without white space, as ``cubin_digest``
    cubin: str = ""
    arch: str = ""
    cubin_digest: str = ""


class Case(NamedTuple):
    """One verified set of shapes. Tensors are (dtype, shape, stride) by name."""

    kernel: int  # its place in ``Verified.kernels``
    arguments: dict[str, Any]  # forward's arguments that are no tensors
    inputs: dict[str, tuple[torch.dtype, tuple[int, ...], tuple[int, ...]]]
    weights: dict[str, tuple[torch.dtype, tuple[int, ...], tuple[int, ...]]]
    outputs: dict[str, tuple[torch.dtype, tuple[int, ...], tuple[int, ...]]]
    result: Any  # the one output's name, or the container of all
    tolerance: dict[str, float]  # relative error that each output may have
    scratch: dict[str, tuple[torch.dtype, tuple[int, ...], bool]]  # the last: zeroed
    launches: tuple[Launch, ...]


class Verified(NamedTuple):
    """A module as it was verified, with its kernels."""

    name: str  # the class
    namespace: str  # of the operator that torch.compile sees
    source: str  # hash of all code and constants that forward reaches
    gpu: str
    measured: bool
    mode: str | None  # "eval" or "train", where the module differs between them
    modules: dict[str, str]  # submodules' classes by path
    attributes: dict[str, Any]
    functions: tuple[str, ...]  # attributes that are code
    absent: tuple[str, ...]  # parameters and buffers that are None
    tied: dict[str, str]  # other names of shared parameters and buffers, each with the first
    kernels: tuple[KernelFile, ...]
    cases: tuple[Case, ...]
