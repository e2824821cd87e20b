"""Builds kernels and the runner, in parallel with ninja, each once per source.

A kernel is preprocessed, judged (``screen``), and what was judged is compiled twice: the
plain module, and the hooked one that serves checking and counting. The compiler runs
without the user's environment and within limits: a template can loop as well as a kernel.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from search_engine.contract.kernel import Kernel
from search_engine.contract.tune import fill
from search_engine.devices.cpu.cache import GIGABYTE, BuildCache
from search_engine.devices.cpu.module import Module, inspect
from search_engine.devices.cpu.parallel import (
    COMPILER_BYTES,
    COMPILER_SECONDS,
    Rules,
    run_rules,
)
from search_engine.devices.cpu.ptx.statements import rewrite
from search_engine.devices.cpu.rewrite import entry_lines, translate
from search_engine.devices.cpu.screen import (
    foreign_files,
    include_finding,
    screen_preprocessed,
    screen_source,
)
from search_engine.devices.cpu.toolchain import INCLUDE, SOURCES, Toolchain, runtime_identity
from search_engine.errors import SetupError
from search_engine.verdict import Finding

MOST_FINDINGS = 5
# A failed build with less room than this left counts as the disk's fault: a kernel's two
# modules and what the compiler keeps on the way take about 2 MB.
LEAST_FREE_BYTES = 8 * 2**20

_NAME = "kernel.cu"
_DIAGNOSTIC = re.compile(
    rf"(?:^|/){re.escape(_NAME)}:(\d+)(?::(\d+))?: (?:fatal )?error: (.*)", re.M
)
# An error inside a template of the runtime, with the kernel's line that asked for it.
_INSTANTIATED = re.compile(
    rf"(?:^|/){re.escape(_NAME)}:(\d+)(?::(\d+))?: +required from here\n"
    r"[^\n]*: error: (?:static assertion failed: )?([^\n]*)",
    re.M,
)


@frozen
class Build:
    """Both modules of one kernel."""

    key: str
    plain: Module
    hooked: Module


class Builder:
    """Builds into ``cache``, a folder that outlives the process and may be shared."""

    def __init__(
        self, toolchain: Toolchain, cache: Path, architecture: int, *, limit: int = 2 * GIGABYTE
    ) -> None:
        self._toolchain = toolchain
        self._cache = cache
        self._built = BuildCache(cache, limit)  # at most ``limit`` bytes
        self._architecture = architecture  # 900: what __CUDA_ARCH__ says
        self._modules: dict[str, Build] = {}

    # --- the runner -------------------------------------------------------------------

    def runner(self) -> Path:
        """The runner's executable, compiled at first use. Raises SetupError."""
        digest = hashlib.sha256((self._toolchain.identity + runtime_identity()).encode())
        path = self._cache / f"runner-{digest.hexdigest()[:20]}"
        if path.exists():
            return path
        with self._workspace() as folder:
            rules: Rules = {
                f"{source.stem}.o": (
                    [*self._toolchain.command, *("-std=c++17", "-O2", "-fno-exceptions"),
                     *("-fno-rtti", "-fno-stack-protector", "-c", str(source), "-o",
                       f"{source.stem}.o")],
                    [str(source)],
                )
                for source in sorted(SOURCES.glob("*.cpp"))
            }  # fmt: skip
            objects = list(rules)
            command = [*self._toolchain.command, "-rdynamic", "-Wl,--no-as-needed", *objects]
            rules["runner"] = ([*command, "-o", "runner", "-lm", "-ldl"], objects)
            run_rules(Path(folder), rules)
            built = Path(folder) / "runner"
            if not built.exists():
                log = "\n".join(p.read_text() for p in sorted(Path(folder).glob("*.log")))
                raise SetupError(
                    f"The C++ compiler {self._toolchain.command[0]} cannot build the runner of the "
                    f"cpu device: {log.strip()[:500]}"
                )
            built.replace(path)
        return path

    # --- kernels ------------------------------------------------------------------------

    def build(self, kernels: Sequence[Kernel]) -> list[Build | list[Finding]]:
        """For each kernel its modules, or the findings against it, in the same order."""
        results: list[Build | list[Finding] | None] = [None] * len(kernels)
        pending: dict[str, list[int]] = {}
        for index, kernel in enumerate(kernels):
            key = self._key(kernel)
            known = self._known(key)
            if known is not None:
                results[index] = known
            else:
                pending.setdefault(key, []).append(index)
        if pending:
            first = {key: kernels[indices[0]] for key, indices in pending.items()}
            with self._workspace() as folder:
                built = self._build_new(Path(folder), first)
            for key, indices in pending.items():
                for index in indices:
                    results[index] = built[key]
        return [result for result in results if result is not None]

    def again(self, kernel: Kernel, build: Build) -> Build:
        """``build`` itself, or a new one where its files were pruned; marked as used.

        Raises SetupError where it does not build any more.
        """
        if self._built.find(build.key) is not None:
            return build
        [made] = self.build([kernel])
        if isinstance(made, Build):
            return made
        raise SetupError(f"A kernel that was built before does not build any more: {made[0]}.")

    def _key(self, kernel: Kernel) -> str:
        functions = [launch.function for launch in kernel.launches]
        parts = (
            fill(kernel), *functions, self._toolchain.identity, runtime_identity(),
            repr(self._toolchain.common), str(self._architecture),
        )  # fmt: skip
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

    def _known(self, key: str) -> Build | None:
        folder = self._built.find(key)
        if folder is None:
            return None
        if key in self._modules:
            return self._modules[key]
        loaded = self._load(key, folder)
        return loaded if isinstance(loaded, Build) else None

    def _load(self, key: str, folder: Path) -> Build | list[Finding]:
        plain, findings = inspect(folder / "plain.so", hooked=False)
        hooked, more = inspect(folder / "hooked.so", hooked=True)
        if plain is None or hooked is None:
            return _distinct([*findings, *more])
        self._modules[key] = Build(key, plain, hooked)
        return self._modules[key]

    def _workspace(self) -> tempfile.TemporaryDirectory[str]:
        try:
            self._built.modules.mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryDirectory(prefix="build-", dir=self._cache)
        except OSError as error:
            raise SetupError(
                f"Kernels cannot be built in {self._cache} ({error.strerror}): make the folder "
                "writable or set KERNEL_LSP_DATA to one that is."
            ) from error

    def _require_space(self) -> None:
        """A build that a full disk ended is no kernel's fault. Raises SetupError."""
        if shutil.disk_usage(self._cache).free < LEAST_FREE_BYTES:
            raise SetupError(
                f"The disk that holds {self._cache} is full, so kernels cannot be built: free some "
                "space, or set KERNEL_LSP_DATA to a folder on another disk."
            )

    def _build_new(
        self, folder: Path, kernels: dict[str, Kernel]
    ) -> dict[str, Build | list[Finding]]:
        results: dict[str, Build | list[Finding]] = {}
        rules: Rules = {}
        for key, kernel in kernels.items():
            findings = screen_source(kernel.source)
            if findings:
                results[key] = findings[:MOST_FINDINGS]
                continue
            (folder / key).mkdir()
            (folder / key / _NAME).write_text(_filled_translation(kernel, self._toolchain.gcc))
            rules[f"{key}/kernel.ii"] = (self._preprocess(key), [])
        run_rules(folder, rules)

        rules = {}
        for key, kernel in kernels.items():
            if key in results:
                continue
            findings = self._judge(folder, key, kernel)
            if findings:
                results[key] = findings[:MOST_FINDINGS]
                continue
            rules |= self._module(key, "plain", (), ())
            rules |= self._module(key, "hooked", self._toolchain.hooked, _WRAPPED)
        run_rules(folder, rules)

        for key, kernel in kernels.items():
            if key not in results:
                results[key] = self._take(folder, key, kernel)
        return results

    def _preprocess(self, key: str) -> list[str]:
        return [
            *self._toolchain.command, *self._toolchain.common, "-E", "-x", "c++",
            *("-nostdinc", "-nostdinc++", "-I", str(INCLUDE)),
            *("-include", "simt.h"),
            *(f"-D__CUDA_ARCH__={self._architecture}", "-D__CUDACC__", "-D__NVCC__"),
            *("-D__CUDACC_RTC__", "-MD", "-MF", f"{key}/kernel.d"),
            *(f"{key}/{_NAME}", "-o", f"{key}/kernel.ii"),
        ]  # fmt: skip

    def _module(
        self, key: str, name: str, compiling: Sequence[str], linking: Sequence[str]
    ) -> Rules:
        """Compile, then link: in one step zig would build the sanitizer's library as well."""
        tools = self._toolchain
        source, output, module = f"{key}/kernel.ii", f"{key}/{name}.o", f"{key}/{name}.so"
        # zig's driver does not know preprocessed text by name; a directive in it is a finding.
        language = "c++-cpp-output" if tools.gcc else "c++"
        compile_ = [*tools.command, *tools.common, *compiling, "-nostdinc", "-x", language]
        link = [*tools.command, *tools.link, *linking, output, *tools.libraries]
        return {
            output: ([*compile_, "-c", source, "-o", output], []),
            module: ([*link, "-o", module], [output]),
        }

    def _judge(self, folder: Path, key: str, kernel: Kernel) -> list[Finding]:
        """Findings of the preprocessor's step: what it opened comes before what it said."""
        depfile = folder / key / "kernel.d"
        log = _log(folder, f"{key}/kernel.ii")
        if depfile.exists():
            allowed = (INCLUDE, folder / key / _NAME)
            if foreign_files(depfile.read_text(errors="replace"), folder, allowed):
                return [include_finding(kernel.source)]
        output = folder / key / "kernel.ii"
        if not output.exists():
            self._require_space()
            return _header_findings(_diagnostics(log, kernel), log)
        text, found = rewrite(output.read_text(errors="replace"), f"{key}/{_NAME}")
        output.write_text(text)
        last = kernel.source.count("\n") + 1
        found = found or screen_preprocessed(text, f"{key}/{_NAME}")
        return _distinct([f for f in found if f.line is None or f.line <= last])

    def _take(self, folder: Path, key: str, kernel: Kernel) -> Build | list[Finding]:
        for name in ("plain.so", "hooked.so"):
            if not (folder / key / name).exists():
                self._require_space()
                log = _log(folder, f"{key}/{name[:-3]}.o") + _log(folder, f"{key}/{name}")
                return _diagnostics(log, kernel)[:MOST_FINDINGS] or [_no_diagnostic(log)]
        loaded = self._load(key, folder / key)
        if isinstance(loaded, list):
            return loaded[:MOST_FINDINGS]
        for name in ("kernel.d", "kernel.ii", "plain.o", "hooked.o"):
            (folder / key / name).unlink(missing_ok=True)
        return self._load(key, self._built.add(folder / key, key))


# The hooked module's memcpy and its kind go through the checks as well.
_WRAPPED = tuple(f"-Wl,--wrap={name}" for name in ("memcpy", "memmove", "memset", "memcmp"))


def _filled_translation(kernel: Kernel, gcc: bool) -> str:
    filled = Kernel(fill(kernel), kernel.launches, kernel.scratch, kernel.tunes)
    return translate(filled, gcc=gcc)


def _distinct(findings: Sequence[Finding]) -> list[Finding]:
    return list(dict.fromkeys(findings))


def _log(folder: Path, target: str) -> str:
    path = folder / f"{target}.log"
    return path.read_text(errors="replace") if path.exists() else ""


def _diagnostics(log: str, kernel: Kernel) -> list[Finding]:
    """The compiler's errors in the kernel's own lines, and in those that make its entries."""
    entries = entry_lines(kernel)
    findings = []
    for line, column, message in _DIAGNOSTIC.findall(log) or _INSTANTIATED.findall(log):
        number = int(line)
        if number in entries:
            findings.append(Finding("signature", message[:300], entries[number]))
        else:
            findings.append(
                Finding("compile", message[:300], number, int(column) if column else None)
            )
    return _distinct(findings)


def _header_findings(findings: list[Finding], log: str) -> list[Finding]:
    """A header that CUDA has and the cpu device lacks is no mistake of the kernel."""
    found = []
    for finding in findings:
        missing = re.match(r"'?([^':]+)'?(?:: No such file| file not found)", finding.message)
        if missing:
            message = f"the cpu device has no <{missing[1]}>"
            finding = Finding("unsupported", message, finding.line, finding.column)
        found.append(finding)
    return found or [_no_diagnostic(log)]


def _no_diagnostic(log: str) -> Finding:
    """The compiler gave up without a line: it ran over its limits, or an error of the linker."""
    own = [row for row in log.splitlines() if "error" in row.lower() and "/" not in row]
    if any("Killed" in row or "CPU time limit" in row or "out of memory" in row for row in own):
        own = [
            f"the compiler ran over its limits ({COMPILER_SECONDS} s of processor time, "
            f"{COMPILER_BYTES // 2**30} GB): fewer template instances, less unrolling"
        ]
    reason = own[0][:200] if own else "it ended without a message, or took too long"
    return Finding("compile", f"the kernel does not compile: {reason}")
