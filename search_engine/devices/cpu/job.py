"""What the runner is told, and what it answers: words in, lines out."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from attrs import frozen

from search_engine.contract.kernel import Number, Plan, Pointer, ResolvedLaunch
from search_engine.devices.arena import Arena, Layout
from search_engine.devices.cpu.module import Module, Parameter
from search_engine.verdict import Finding

Mode: TypeAlias = Literal["plain", "check", "count"]

_KNOWN_CHECKS = frozenset({
    "race", "divergent-barrier", "divergent-shuffle", "out-of-bounds", "uninitialised-shared",
    "misaligned", "assert", "fault", "misuse",
})  # fmt: skip


@frozen
class Limits:
    """What the runner may use."""

    address_space: int  # bytes
    cpu_seconds: int
    guarded: bool


@frozen
class Sample:
    """What the counting run does of a launch: its blocks by index, and each one's share of L1."""

    blocks: tuple[int, ...]
    l1_bytes: int


def signature_findings(module: Module, plan: Plan) -> list[Finding]:
    """Launches whose arguments do not fit the compiled parameters: number, kind, range."""
    findings = []
    for launch in plan.launches:
        parameters = module.signatures.get(launch.function, ())
        if len(parameters) != len(launch.arguments):
            message = (
                f"{launch.function} takes {len(parameters)} arguments, its launch line gives "
                f"{len(launch.arguments)}"
            )
            findings.append(Finding("signature", message, launch.line))
            continue
        for index, (argument, parameter) in enumerate(
            zip(launch.arguments, parameters, strict=True)
        ):
            reason = _misfit(argument, parameter)
            if reason:
                message = f"argument {index + 1} of {launch.function}: {reason}"
                findings.append(Finding("signature", message, launch.line))
    return findings


def _misfit(argument: Pointer | Number, parameter: Parameter) -> str | None:
    if isinstance(argument, Pointer):
        if parameter.kind == "pointer":
            return None
        return f"`{argument.name}` is a tensor, the function takes {_named(parameter)} here"
    if parameter.kind in ("pointer", "struct"):
        return f"{argument.value!r} is a number, the function takes {_named(parameter)} here"
    if parameter.kind in ("int", "uint"):
        if isinstance(argument.value, float):
            return f"{argument.value!r} is no integer, the function takes {_named(parameter)} here"
        try:
            _bytes(argument.value, parameter)
        except (struct.error, OverflowError):
            return f"{argument.value!r} does not fit {_named(parameter)}"
    return None


def _named(parameter: Parameter) -> str:
    if parameter.kind in ("pointer", "struct", "bool"):
        return f"a {parameter.kind}"
    names = {"int": "a signed integer", "uint": "an unsigned integer"}
    return f"{names.get(parameter.kind, 'a floating-point number')} of {parameter.size} bytes"


def _bytes(value: float, parameter: Parameter) -> bytes:
    """A number as the parameter's type has it in memory. Raises struct.error out of range."""
    if parameter.kind == "bool":
        return struct.pack("<?", bool(value))
    if parameter.kind == "half":
        return struct.pack("<e", float(value))
    if parameter.kind == "bfloat16":
        bits: int = struct.unpack("<I", _float32(float(value)))[0]
        if not math.isnan(value):
            bits += 0x7FFF + (bits >> 16 & 1)  # to nearest, ties to even
        return struct.pack("<H", bits >> 16 & 0xFFFF)
    if parameter.kind == "float":
        return _float32(float(value)) if parameter.size == 4 else struct.pack("<d", float(value))
    letter = {1: "b", 2: "h", 4: "i", 8: "q"}[parameter.size]
    return struct.pack("<" + (letter if parameter.kind == "int" else letter.upper()), int(value))


def _float32(value: float) -> bytes:
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", math.copysign(math.inf, value))


def most_threads(plan: Plan, samples: Sequence[Sample] | None = None) -> int:
    """How many fibers must be alive at once."""
    most = 1
    for index, launch in enumerate(plan.launches):
        blocks = math.prod(launch.grid) if launch.cooperative else 1
        if samples and launch.cooperative and samples[index].blocks:
            blocks = len(samples[index].blocks)
        most = max(most, blocks * math.prod(launch.block))
    return most


def write_job(
    mode: Mode,
    module: Module,
    module_fd: int,
    plan: Plan,
    layout: Layout,
    place: Callable[[str], int],
    arena: tuple[int | None, int],
    limits: Limits,
    samples: Sequence[Sample] | None = None,
) -> str:
    """The runner's input. ``place`` gives a buffer's offset in the arena of ``arena[1]`` bytes;
    ``arena[0]`` is its file, None for memory private to the runner. ``samples`` are the
    blocks to count, one for each launch; without it all blocks run.
    """
    written = [(place(b.name), b.nbytes) for b in layout.buffers if b.role != "input"]
    begin = min((start for start, _ in written), default=0)
    end = max((start + size for start, size in written), default=0)
    fd, size = arena
    sampled = samples or [Sample((), 0)] * len(plan.launches)
    threads = most_threads(plan, sampled)
    words = [
        f"mode {mode}",
        f"arena {0 if fd is None else fd + 1} {size} {begin} {end}",
        f"module {module_fd} {module.span}",
        f"limits {limits.address_space} {limits.cpu_seconds} {int(limits.guarded)} {threads}",
        f"variables {len(module.variables)}",
        *(f"variable {v.begin} {v.end} {int(v.shared)} {int(v.guard)}" for v in module.variables),
        f"launches {len(plan.launches)}",
    ]
    for launch, sample in zip(plan.launches, sampled, strict=True):
        words.append(_launch(launch, module.signatures[launch.function], layout, place, sample))
    return "\n".join([*words, ""])


def _launch(
    launch: ResolvedLaunch,
    parameters: Sequence[Parameter],
    layout: Layout,
    place: Callable[[str], int],
    sample: Sample,
) -> str:
    words = ["launch", launch.function, *map(str, launch.grid), *map(str, launch.block)]
    words += [str(launch.shared), str(int(launch.cooperative)), str(len(launch.arguments))]
    names = []
    for argument, parameter in zip(launch.arguments, parameters, strict=True):
        if isinstance(argument, Pointer):
            words += ["1", str(place(argument.name))]
            names.append(argument.name)
        else:
            raw = _bytes(argument.value, parameter)
            words += ["0", str(int.from_bytes(raw, "little"))]
    buffers = [layout.buffer(name) for name in dict.fromkeys(names)]
    words.append(str(len(buffers)))
    for buffer in buffers:
        start = place(buffer.name)
        words += [str(start), str(start + buffer.nbytes), str(int(buffer.role != "input"))]
    counting = (sample.l1_bytes, len(sample.blocks), *sample.blocks)
    return " ".join([*words, *map(str, counting)])


def read_findings(
    lines: Sequence[str],
    arena: Arena,
    line_of: Callable[[int], int | None],
) -> list[Finding]:
    """The runner's findings, with places in the source and in the arena resolved.

    One for each check and line: the first.
    """
    findings = []
    seen = set()
    for line in lines:
        words = line.split(" ", 10)
        if len(words) != 11 or words[0] != "finding" or words[1] not in _KNOWN_CHECKS:
            continue
        try:
            numbers = [int(word) for word in words[2:10]]
        except ValueError:
            continue
        address, number, *place = numbers
        at = number or (line_of(address) if address else None)
        where = "block ({}, {}, {}) thread ({}, {}, {})".format(*place)
        if at is not None and (words[1], at) in seen:
            continue
        seen.add((words[1], at))
        message = _resolved(words[10], arena, line_of)
        findings.append(Finding(words[1], message, at, place=where))
    # Where a barrier is missing, some reads come too early: the race is what to mend.
    return sorted(findings, key=lambda finding: finding.check == "uninitialised-shared")


def _resolved(text: str, arena: Arena, line_of: Callable[[int], int | None]) -> str:
    def offset(match: re.Match[str]) -> str:
        line = line_of(int(match[1]))
        return f"at line {line}" if line else "elsewhere"

    text = re.sub(r"@(\d+)", offset, text)
    text = re.sub(r"#(\d+)", r"at line \1", text)
    return re.sub(r" ~(\d+)", lambda m: ": " + _nearest(int(m[1]), arena), text)


def _nearest(offset: int, arena: Arena) -> str:
    """The buffer that an address misses by least, in words."""
    found: tuple[int, str] | None = None
    for buffer in arena.layout.buffers:
        start = arena.offset_of(buffer.name)
        end = start + buffer.nbytes
        if start <= offset < end:
            inside = offset - start
            return (
                f"byte {inside} of {buffer.name} ({buffer.nbytes} bytes), across its end or not "
                "an argument of this launch"
            )
        far = offset - end if offset >= end else start - offset
        side = "past the end of" if offset >= end else "before the start of"
        if found is None or far < found[0]:
            found = (far, f"{far} bytes {side} {buffer.name}")
    return found[1] if found else "no buffer is near"
