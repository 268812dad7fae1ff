"""What a program may not ask of the kernel, under a budget in flop and under others."""

import json
import os
import subprocess
import sys
from functools import cache

import pytest

from pytest_autoresearch.candidate import system_calls
from pytest_autoresearch.referee.sandbox import check_filter

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
works = pytest.mark.skipif(bool(check_filter()), reason="no filter of system calls here")

TRIES = """
import ctypes, fcntl, json, multiprocessing, os, signal, socket, subprocess, sys, threading
from concurrent.futures import ThreadPoolExecutor
from pytest_autoresearch.candidate import system_calls

theirs, ours = socket.socketpair()  # made here: this process is the referee, and its own watcher
program = os.fork()
if program:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(program, 0)[1]))
os.setsid()
if {without}:
    system_calls.install = lambda rules: (_ for _ in ()).throw(OSError("no filters here"))
system_calls.confine(ours, starts_processes={starts_processes})
libc, above = ctypes.CDLL(None, use_errno=True), os.getppid()
held = ctypes.create_string_buffer(64)

def call(name, *arguments):
    number = system_calls.NUMBERS[name][system_calls._machine()[0]]
    if number is None:
        return
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")

def fork():
    ended = libc.fork()
    if ended < 0:
        raise OSError(ctypes.get_errno(), "")
    os.waitpid(ended, 0) if ended else os._exit(0)

def run(start, *arguments):
    started = start(*arguments)
    started.start()
    started.join()

TRIES = {{
    "kill the watcher": lambda: os.kill(above, 0),
    "kill its group": lambda: os.kill(-os.getpgid(above), 0),
    "kill all": lambda: os.kill(-1, 0),
    "kill itself": lambda: os.kill(os.getpid(), 0),
    "kill its own group": lambda: os.kill(0, 0),
    "tkill": lambda: call("tkill", above, 0),
    "tgkill": lambda: call("tgkill", above, above, 0),
    "tgkill itself": lambda: call("tgkill", os.getpid(), os.getpid(), 0),
    "queue a signal": lambda: call("rt_sigqueueinfo", above, 0, held),
    "queue a signal for a thread": lambda: call("rt_tgsigqueueinfo", above, above, 0, held),
    "by its descriptor": lambda: signal.pidfd_send_signal(os.pidfd_open(above), 0),
    "take its descriptors": lambda: call("pidfd_getfd", os.pidfd_open(above), 0, 0),
    "trace": lambda: call("ptrace", 16, above, 0, 0),
    "read its memory": lambda: call("process_vm_readv", above, 0, 0, 0, 0, 0),
    "write its memory": lambda: call("process_vm_writev", above, 0, 0, 0, 0, 0),
    "limit its time": lambda: call("prlimit64", above, 0, 0, 0),
    "limit its own time": lambda: call("prlimit64", 0, 0, 0, held),
    "send it what sockets send": lambda: fcntl.fcntl(theirs, fcntl.F_SETOWN, above),
    "send it that, too": lambda: fcntl.ioctl(theirs, 0x8901, above.to_bytes(4, sys.byteorder)),
    "ask a socket": lambda: fcntl.ioctl(theirs, 0x541B, bytes(4)),
    "close on exec": lambda: fcntl.fcntl(theirs, fcntl.F_SETFD, 1),
    "thread": lambda: run(lambda: threading.Thread(target=int)),
    "pool": lambda: list(ThreadPoolExecutor(2).map(int, "12")),
    "outlive the watcher": lambda: call("prctl", 1, 0, 0, 0, 0),
    "C fork": fork,
    "C system": lambda: libc.system(b"exit 3") == 3 << 8 or call("execve", 0, 0, 0),
    "fork": lambda: os.fork() or os._exit(0),
    "subprocess": lambda: subprocess.run(["true"], check=True),
    "system": lambda: os.system("true"),
    "spawn": lambda: os.waitpid(os.posix_spawnp("true", ["true"], {{}}), 0),
    "forked worker": lambda: run(multiprocessing.get_context("fork").Process),
    "worker": lambda: multiprocessing.get_context("spawn").Semaphore(),  # begins with a process for its names
    "exec": lambda: os.execv("/no/such/file", ["x"]),
    "C exec": lambda: call("execve", b"/no/such/file", 0, 0),
    "clone": lambda: call("clone", 0x10000, 0, 0, 0, 0),  # as a thread that shares nothing, which the kernel refuses
    "clone3": lambda: call("clone3", 0, 0),
}}
said = {{}}
for name, attempt in TRIES.items():
    if name in {skipped}:
        continue
    try:
        attempt()
        said[name] = "works"
    except PermissionError as error:
        said[name] = "refused" if error.errno == 1 else str(error)
    except OSError as error:
        said[name] = os.strerror(error.errno)
os.write(1, json.dumps(said).encode())
os._exit(0)
"""
TOUCHES_THOSE_ABOVE = {
    *("kill the watcher", "kill its group", "kill all", "tkill", "tgkill", "queue a signal"),
    *("queue a signal for a thread", "by its descriptor", "take its descriptors", "trace", "read its memory"),
    *("write its memory", "limit its time", "send it what sockets send", "send it that, too"),
}
STARTS_A_PROCESS = {"fork", "subprocess", "system", "spawn", "forked worker", "worker", "exec"}
BELOW_PYTHON = {"C fork", "C system", "C exec", "outlive the watcher"}


@cache
def said(starts_processes: bool, without: bool = False) -> dict[str, str]:
    """What came of each attempt."""
    skipped = TOUCHES_THOSE_ABOVE if without else ()
    script = TRIES.format(starts_processes=starts_processes, without=without, skipped=skipped)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


@works
@pytest.mark.parametrize("starts_processes", [True, False])
def test_those_above_get_no_signal_and_are_not_traced(starts_processes: bool) -> None:
    attempts = said(starts_processes)
    refused = {name for name, result in attempts.items() if result == "refused"}
    assert refused == TOUCHES_THOSE_ABOVE | (set() if starts_processes else BELOW_PYTHON)


@works
def test_under_other_budgets_a_program_starts_processes() -> None:
    attempts = said(True)
    works = {name for name in attempts if attempts[name] == "works"}
    others = {"exec", "C exec", "clone", "clone3"}
    assert works == attempts.keys() - TOUCHES_THOSE_ABOVE - others
    assert {attempts[name] for name in others} == {"No such file or directory", "Invalid argument"}


@pytest.mark.parametrize("without", [pytest.param(False, marks=works), True])
def test_under_a_budget_in_flop_python_says_why_no_process_starts(without: bool) -> None:
    """Also where the kernel would not refuse it."""
    attempts = said(False, without)
    assert {name for name in attempts if attempts[name] == system_calls.NO_PROCESS} == STARTS_A_PROCESS
    assert attempts["thread"] == attempts["pool"] == "works"
    if not without:
        assert attempts["clone"] == "Invalid argument"  # it reached the kernel
        assert attempts["clone3"] == "Function not implemented"


@works
def test_calls_of_another_width_are_refused() -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("for x86-64")
    script = """
import ctypes, mmap, os
from pytest_autoresearch.candidate import system_calls
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, 20 (getpid of i386); int 0x80; ret
narrow = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
system_calls.install([])
libc = ctypes.CDLL(None, use_errno=True)
print(narrow() == os.getpid(), libc.syscall(0x40000000 + 39), ctypes.get_errno())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout in ("False -1 1\n", "")  # no output: a kernel without i386 ends the process


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_each_rule_ends_within_itself(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jumps lead to the rule's own refusal or to its end, so that rules can stand in any order."""
    monkeypatch.setattr(system_calls, "_machine", lambda: system_calls.ARCHITECTURES[machine])
    rules = [rule for rule in system_calls.rules([7, -7], starts_processes=False) if rule]
    assert len(rules) == {"x86_64": 20, "aarch64": 18}[machine]
    for rule in rules:
        for place, (code, if_true, if_false, _) in enumerate(rule):
            targets = {place + 1 + if_true, place + 1 + if_false}
            assert targets <= set(range(place + 1, len(rule) + 1)), rule
            if code == system_calls.RETURN:
                assert place == len(rule) - 1


def test_another_machine_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.uname", lambda: type("", (), {"machine": "riscv64"}))
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert system_calls.try_out() == "not for Linux on riscv64"
