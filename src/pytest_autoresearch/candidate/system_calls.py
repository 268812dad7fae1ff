"""The system calls that a program may not make: a filter in the kernel (seccomp, Linux on x86-64 and ARM64).

A program, and each process that it starts, cannot signal or trace the watcher and the referee, nor write to their
memory. Under a budget in flop it cannot start a process or turn into another one, because only the flop of its own
process are counted. The filter cannot be removed, and each process inherits it.

Run as a module, this tries the filter out, and exits with the reason if it does not work.
"""

import ctypes
import errno
import os
import platform
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from pytest_autoresearch.core.processes import PR_SET_PDEATHSIG

NO_PROCESS = "under a budget in flop a program starts no process, because its flop would not be counted; use threads"
STARTING = {"os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec", "subprocess.Popen"}
"""Python's audit events that come before a process starts, or turns into another one."""
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Machine → its column in `NUMBERS`, and the kernel's AUDIT_ARCH_… for it."""
NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "ioctl": (16, 29),
    "clone": (56, 220),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "kill": (62, 129),
    "fcntl": (72, 25),
    "ptrace": (101, 117),
    "rt_sigqueueinfo": (129, 138),
    "prctl": (157, 167),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_tgsigqueueinfo": (297, 240),
    "prlimit64": (302, 261),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "seccomp": (317, 277),
    "execveat": (322, 281),
    "pidfd_send_signal": (424, 424),
    "clone3": (435, 435),
    "pidfd_getfd": (438, 438),
}
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF_…
ALLOW, ERROR = 0x7FFF0000, 0x00050000  # SECCOMP_RET_…
X32 = 0x40000000  # on x86-64 the numbers from here on are calls with 32-bit pointers; elsewhere there are none
NUMBER, ARCHITECTURE = 0, 4  # offsets in the kernel's seccomp_data
CLONE_THREAD = 0x10000
NEVER = ("ptrace", "tkill", "pidfd_send_signal", "pidfd_getfd", "process_vm_readv", "process_vm_writev")
TO_A_PROCESS = ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "prlimit64")
"""Calls whose first argument is a process or a group."""
OWNERS = {"fcntl": (8, 15), "ioctl": (0x8901, 0x8902)}
"""F_SETOWN, F_SETOWN_EX, FIOSETOWN, SIOCSPGRP: with them the kernel sends any signal to any process."""
PR_SET_NO_NEW_PRIVS = 38
SET_MODE_FILTER, ALL_THREADS, NO_SLOWDOWN = 1, 1, 4
"""NO_SLOWDOWN is SECCOMP_FILTER_FLAG_SPEC_ALLOW: else older kernels slow all of the process's code down."""

Instruction = tuple[int, int, int, int]


def confine(channel: socket.socket, starts_processes: bool) -> None:
    """Filter the system calls of this process, the watcher's child, from here on.

    The referee is at the other end of `channel`. Where filters do not work this does nothing: the session's header has
    said so.
    """
    if not starts_processes:
        refuse_in_words()
    if sys.platform == "linux":
        referee, _, _ = struct.unpack("3i", channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        above = [os.getppid(), *[referee] * (referee > 0)]  # 0: it is outside of the sandbox
        with suppress(OSError):
            install(rules([*above, *(-os.getpgid(process) for process in above)], starts_processes))


def refuse_in_words() -> None:
    """Have Python say in plain words why no process starts. The filter enforces it."""

    def refuse(*arguments: Any) -> NoReturn:
        raise PermissionError(NO_PROCESS)

    def hook(event: str, arguments: Any) -> None:
        if event in STARTING:
            refuse()

    sys.addaudithook(hook)
    with suppress(ImportError):
        import _posixsubprocess

        _posixsubprocess.fork_exec = refuse  # multiprocessing uses it without an event


def rules(above: Sequence[int], starts_processes: bool) -> list[list[Instruction]]:
    """The rules of the filter. `above`: the processes that get no signal, and their groups as negative numbers."""
    column, _ = _machine()

    def refused(name: str, *checks: Instruction, error: int = errno.EPERM) -> list[Instruction]:
        """Refuse a call, unless one of the checks jumps past the end of the rule."""
        rest = [*checks, (RETURN, 0, 0, ERROR | error)]
        number = NUMBERS[name][column]
        return [] if number is None else [(LOAD, 0, 0, NUMBER), (EQUAL, 0, len(rest), number), *rest]

    def refused_for(name: str, argument: int, values: Sequence[int]) -> list[Instruction]:
        """Refuse a call if an argument (32 bits, as the kernel reads it) is one of the values."""
        left = range(len(values) - 1, -1, -1)  # equal: jump over the other checks; the last unequal: past the end
        jumps = [(EQUAL, n, int(n == 0), value & 0xFFFFFFFF) for n, value in zip(left, values, strict=True)]
        return refused(name, (LOAD, 0, 0, 16 + 8 * argument), *jumps)

    found = [refused(name) for name in NEVER]
    found += [refused_for(name, 0, [*above, -1]) for name in TO_A_PROCESS]
    found += [refused_for(name, 1, values) for name, values in OWNERS.items()]
    if not starts_processes:
        found += [refused(name) for name in ("fork", "vfork", "execve", "execveat")]
        found.append(refused("clone", (LOAD, 0, 0, 16), (ANY_BIT, 1, 0, CLONE_THREAD)))
        found.append(refused("clone3", error=errno.ENOSYS))  # its flags are out of reach; libraries then use clone
        found.append(refused_for("prctl", 0, [PR_SET_PDEATHSIG]))  # the program ends with its watcher
    return found


def install(rules: Sequence[Sequence[Instruction]]) -> None:
    """Make this process obey the rules for good. OSError if the system has no such filters."""
    column, architecture = _machine()
    wrong = (RETURN, 0, 0, ERROR | errno.EPERM)
    head = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, architecture), wrong]
    head += [(LOAD, 0, 0, NUMBER), (AT_LEAST, 0, 1, X32), wrong]
    program = [*head, *(instruction for rule in rules for instruction in rule), (RETURN, 0, 0, ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
    described = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    seccomp = NUMBERS["seccomp"][column], SET_MODE_FILTER, ALL_THREADS | NO_SLOWDOWN, described
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(*seccomp):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _machine() -> tuple[int, int]:
    """This machine's column in `NUMBERS`, and its AUDIT_ARCH_…. OSError if it is another one."""
    if sys.platform != "linux" or sys.maxsize < 2**32 or os.uname().machine not in ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"not for {platform.system()} on {platform.machine()}")
    return ARCHITECTURES[os.uname().machine]


def try_out() -> str:
    """Filter this process's system calls. Returns why that does not work here, or ""."""
    try:
        install(rules([], starts_processes=False))
    except OSError as error:
        return str(error.strerror)
    try:
        os.fork()
    except PermissionError:
        return ""
    return "the system ignores it"


if __name__ == "__main__":
    sys.exit(try_out() or None)
