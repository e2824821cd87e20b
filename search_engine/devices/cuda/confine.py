"""Limits on the process that compiles: what it may read, and how much it may use.

A compiler reads what a source tells it to include and prints what it reads into its log,
so what a generated kernel may make it open is decided by the kernel of the operating
system: Landlock (https://docs.kernel.org/userspace-api/landlock.html), which needs no
privileges. Called through ctypes; glibc has no wrappers.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from collections.abc import Sequence
from pathlib import Path

# System call numbers, the same on every architecture that Linux added after 5.1.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
# The access rights that each version of the interface added, so that all of them are
# denied: files (13 rights), then REFER, TRUNCATE, IOCTL_DEV.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NETWORK_RIGHTS = 0b11  # since 4: TCP bind and connect
_SCOPES = 0b11  # since 6: abstract Unix sockets and signals of others

_libc = ctypes.CDLL(None, use_errno=True)


def landlock_version() -> int:
    """The version of Landlock's interface that this machine has, 0 where it has none."""
    version = _libc.syscall(
        _CREATE_RULESET, ctypes.c_void_p(), ctypes.c_size_t(), _CREATE_RULESET_VERSION
    )
    return max(int(version), 0)


def allow_reading_only(paths: Sequence[str]) -> bool:
    """From now on this process opens nothing but files beneath ``paths``, for reading.

    No writing, no TCP (from version 4 on). Irrevocable, and inherited by children. False
    where the machine has no Landlock; raises OSError where it has but refuses.
    """
    version = landlock_version()
    if version == 0:
        return False
    rights = (1 << _FILE_RIGHTS[min(version, 5)]) - 1
    attributes = struct.pack(
        "=QQQ", rights, _NETWORK_RIGHTS if version >= 4 else 0, _SCOPES if version >= 6 else 0
    )
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _check(
        _libc.syscall(_CREATE_RULESET, ctypes.c_char_p(attributes), ctypes.c_size_t(size), 0)
    )
    try:
        for path in paths:
            if not Path(path).exists():
                continue
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                allowed = _EXECUTE | _READ_FILE | (_READ_DIR if Path(path).is_dir() else 0)
                rule = struct.pack("=Qi", allowed, folder)
                _check(
                    _libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.c_char_p(rule), 0)
                )
            finally:
                os.close(folder)
        _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _check(_libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return True


def limit_resources(*, memory_bytes: int) -> None:
    """Bound the address space; no file may be written, no core dumped."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_cpu(seconds: int) -> None:
    """End this process after ``seconds`` more of CPU time; a later call starts anew."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    until = int(usage.ru_utime + usage.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(result)
