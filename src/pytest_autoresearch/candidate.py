"""Entry point of the untrusted process: `python -m pytest_autoresearch.candidate SOCKET BUFFER`, both inherited.

Reads one job from the socket, trains the program, then serves logits until the referee hangs up. Everything it says
is a JSON line; logits go into the buffer that the referee allocated. Imports nothing of the referee's.
"""

import ctypes
import json
import mmap
import os
import random
import select
import signal
import socket
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
KEYCTL_JOIN_SESSION_KEYRING = 1


def main() -> None:
    began = time.monotonic()
    channel = socket.socket(fileno=int(sys.argv[1]))
    memory = mmap.mmap(int(sys.argv[2]), 0)
    volunteer_for_oom()
    leave_keyring()
    under_watch(channel)
    lines = channel.makefile("r", encoding="utf-8")

    one_at_a_time = threading.Lock()  # a program may have threads of its own

    def send(message: dict[str, Any]) -> None:
        with one_at_a_time:
            channel.sendall(json.dumps(message).encode() + b"\n")

    job = json.loads(lines.readline())
    try:
        # Around everything, so that work between batches, after the last one, or in an answer is counted like the rest.
        with count_flop(job["budget"]["unit"] == "flop") as flop:
            model = train(job, began, channel, flop, send)
            for line in lines:
                answer(model, json.loads(line), job, memory)
                send({"event": "logits", "flop": flop()})
    except BaseException as error:  # SystemExit and KeyboardInterrupt of a program are its end, too
        send({"event": "failed", **describe(error, job["program"])})
        sys.exit(1)


def volunteer_for_oom() -> None:
    """Where memory runs out, the system ends this process and its offspring first (Linux)."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def leave_keyring() -> None:
    """Join a session keyring of its own: what is left in the user's would be there in the next run (Linux)."""
    number = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine) if sys.platform == "linux" else None
    if number:
        ctypes.CDLL(None).syscall(number, KEYCTL_JOIN_SESSION_KEYRING, None)


def under_watch(channel: socket.socket) -> None:
    """Go on in a child process; this one watches it, and ends it and all its offspring when it is time.

    That is when the referee's end of the socket is gone, however that came, or the child has ended. A process of its
    own, because a thread would wait for a program that holds the interpreter lock. On Linux orphans come to the
    watcher, also those that have left the process group.
    """
    if not hasattr(os, "fork"):
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if not child:
        return
    for stream in (0, 1, 2):  # the log ends with the candidate, not with its watcher
        os.close(stream)
    referee = select.poll()
    referee.register(channel, select.POLLHUP)
    status, ended = 0, 0
    while not ended and not referee.poll(100):
        ended, status = os.waitpid(child, os.WNOHANG)
    while offspring := children():
        for process in offspring:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:  # end as the child did, so that the referee can say how
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -code)
    os._exit(code)


def children() -> list[int]:
    """Process numbers of this process's children, where the system tells (Linux)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(stat.parent.name))
    return found


def train(
    job: dict[str, Any], began: float, channel: socket.socket, flop: Callable[[], int], send: Callable[[Any], None]
) -> Any:
    """Import the program and train it. Returns what its `train` returned: tokens (B, T) → logits (B, T, vocab)."""
    import numpy as np
    import torch

    from pytest_autoresearch.run import Run
    from pytest_autoresearch.track import Budget, Meter

    torch.set_num_threads(job["threads"])
    torch.manual_seed(job["seed"])
    np.random.seed(job["seed"])
    random.seed(job["seed"])
    budget = Budget(**job["budget"])
    limit_memory(job)

    def open_rows() -> np.ndarray:
        _, (file,), *_ = socket.recv_fds(channel, 1, 1)
        with open(file, "rb") as rows:
            return np.memmap(rows, dtype=np.uint16, mode="r").reshape(-1, job["sequence_length"] + 1)

    run = Run(
        device=job["device"],
        seed=job["seed"],
        vocab_size=job["vocab_size"],
        sequence_length=job["sequence_length"],
        open_rows=open_rows,
        meter=Meter(budget, began, compiles=job["device"] != "cpu"),
        count_flop=flop,
        send=send,
    )
    program = load_program(Path(job["program"]))
    if not callable(getattr(program, "train", None)):
        raise TypeError("the program defines no function `train`")
    model = program.train(run)
    run._close()
    if not callable(model):
        raise TypeError(f"`train` returned {brief(model)}; it must return a callable: tokens (B, T) → logits")
    if isinstance(model, torch.nn.Module):
        model.eval()  # dropout and the like are for training
    send({"event": "trained", "flop": flop()})
    return model


@contextmanager
def count_flop(wanted: bool) -> Iterator[Callable[[], int]]:
    """Count the flop of a block; yields what says how many so far. Counts nothing where the budget does not ask."""
    if not wanted:
        yield lambda: 0
        return
    # What is compiled does not pass by the counter.
    os.environ["TORCH_COMPILE_DISABLE"] = "1"
    from pytest_autoresearch.flop import counting

    with counting() as flop:
        yield flop


def limit_memory(job: dict[str, Any]) -> None:
    """Have allocations fail past the track's `memory`, so that the program can say what it asked for (POSIX, CPU)."""
    if job["memory"] and job["device"] == "cpu":
        with suppress(ImportError, OSError, ValueError):
            import resource

            resource.setrlimit(resource.RLIMIT_DATA, (int(job["memory"]),) * 2)


def load_program(path: Path) -> types.ModuleType:
    """Run the program's source as the module `program`; registered, so that dataclasses and pickling work."""
    module = types.ModuleType("program")
    module.__file__ = str(path)
    sys.modules["program"] = module
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    return module


def answer(model: Any, request: dict[str, Any], job: dict[str, Any], memory: mmap.mmap) -> None:
    """Compute the logits of the tokens in the buffer and put them behind the tokens, as float32."""
    import torch

    from pytest_autoresearch.scoring import views

    tokens, logits = views(memory, request["rows"], job["sequence_length"], job["vocab_size"])
    with torch.no_grad():
        output = model(tokens.to(job["device"], copy=True))
    if not isinstance(output, torch.Tensor):
        raise TypeError(f"the model returned {brief(output)}; it must return logits, a tensor")
    if output.shape != logits.shape or not output.is_floating_point():
        raise ValueError(
            f"logits are {tuple(output.shape)} {output.dtype}; "
            f"they must be (B, T, vocab) = {tuple(logits.shape)} of a float dtype"
        )
    logits.copy_(output)


def describe(error: BaseException, program: str) -> dict[str, str]:
    """One line for the verdict, and the traceback with the program's own frames only."""
    what = "".join(traceback.format_exception_only(error)).strip()
    trace = traceback.TracebackException.from_exception(error)
    trace.stack = traceback.StackSummary.from_list([frame for frame in trace.stack if frame.filename == program])
    return {  # an exception may say megabytes
        "error": what.splitlines()[-1 if isinstance(error, SyntaxError) else 0][:1000],
        "traceback": ("".join(trace.format(chain=False)) if trace.stack else what)[:20_000],
        "kind": type(error).__name__,
    }


def brief(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


if __name__ == "__main__":
    main()
