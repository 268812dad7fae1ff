"""Entry point of the untrusted process: `python -m pytest_autoresearch.candidate SOCKET BUFFER`, both inherited.

Reads one job from the socket, trains the program, then serves logits until the referee hangs up. Everything it says
is a JSON line; logits go into the buffer that the referee allocated. Imports nothing of the referee's.
"""

import ctypes
import gc
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

PR_SET_CHILD_SUBREAPER = 36
KEYCTL_JOIN_SESSION_KEYRING = 1


@dataclass
class Link:
    """What connects a candidate with its referee: the socket, the memory that both see, and the job it was sent."""

    channel: socket.socket
    memory: mmap.mmap
    lines: Iterator[str]
    job: dict[str, Any] = field(default_factory=dict)
    flop: Callable[[], int] = lambda: 0
    busy: threading.Lock = field(default_factory=threading.Lock)  # a program may have threads of its own

    def send(self, message: dict[str, Any]) -> None:
        with self.busy:
            self.channel.sendall(json.dumps(message).encode() + b"\n")

    def receive_file(self) -> int:
        """The descriptor that the referee hands over next."""
        _, (file,), *_ = socket.recv_fds(self.channel, 1, 1)
        return file

    def receive_rows(self) -> "np.ndarray":
        """Rows of tokens (N, T + 1) uint16 in a file that the referee hands over next; memory-mapped."""
        import numpy as np

        with open(self.receive_file(), "rb") as rows:
            return np.memmap(rows, dtype=np.uint16, mode="r").reshape(-1, self.job["sequence_length"] + 1)


def main() -> None:
    began = time.monotonic()
    channel = socket.socket(fileno=int(sys.argv[1]))
    memory = mmap.mmap(int(sys.argv[2]), 0)
    volunteer_for_oom()
    leave_keyring()
    under_watch(channel)
    link = Link(channel, memory, iter(channel.makefile("r", encoding="utf-8")))
    link.job = json.loads(next(link.lines))
    try:
        # Around everything, so that work between batches, after the last one, or in an answer is counted like the rest.
        with count_flop(link.job["budget"]["unit"] == "flop") as link.flop:
            serve(train(link, began), link)
    except BaseException as error:  # SystemExit and KeyboardInterrupt of a program are its end, too
        link.send({"event": "failed", **describe(error, link.job["program"])})
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


def train(link: Link, began: float) -> Any:
    """Import the program and train it. Returns what its `train` returned: tokens (B, T) → logits (B, T, vocab)."""
    import numpy as np
    import torch

    from pytest_autoresearch.candidate.run import Run, finish_queue
    from pytest_autoresearch.core.budget import Budget, Meter
    from pytest_autoresearch.referee.compiled import let_attention_be_cached

    job = link.job
    torch.set_num_threads(job["threads"])
    torch.manual_seed(job["seed"])
    np.random.seed(job["seed"])
    random.seed(job["seed"])
    limit_memory(job)
    if job["budget"]["unit"] != "flop" and b"compile" in Path(job["program"]).read_bytes():
        let_attention_be_cached()
    run = Run(
        device=job["device"],
        seed=job["seed"],
        vocab_size=job["vocab_size"],
        sequence_length=job["sequence_length"],
        open_rows=link.receive_rows,
        meter=Meter(Budget(**job["budget"]), began, compiles=job["device"] != "cpu"),
        count_flop=link.flop,
        send=link.send,
    )
    program = load_program(Path(job["program"]))
    if not callable(getattr(program, "train", None)):
        raise TypeError("the program defines no function `train`")
    model = program.train(run)
    finish_queue(run.device)
    run._close()
    if not callable(model):
        raise TypeError(f"`train` returned {brief(model)}; it must return a callable: tokens (B, T) → logits")
    if isinstance(model, torch.nn.Module):
        model.eval()  # dropout and the like are for training
    if job["device"] == "cuda":  # what training has left goes back to the device: the referee needs room to score
        gc.collect()
        torch.cuda.empty_cache()
    link.send({"event": "trained", "flop": link.flop(), "memory": device_memory(job)})
    return model


def device_memory(job: dict[str, Any]) -> int:
    """The most bytes of a GPU that tensors have taken so far; 0 elsewhere, where the referee can look for itself."""
    import torch

    return torch.cuda.max_memory_allocated() if job["device"] == "cuda" else 0


@contextmanager
def count_flop(wanted: bool) -> Iterator[Callable[[], int]]:
    """Count the flop of a block; yields what says how many so far. Counts nothing where the budget does not ask."""
    if not wanted:
        yield lambda: 0
        return
    # What is compiled does not pass by the counter.
    os.environ["TORCH_COMPILE_DISABLE"] = "1"
    from pytest_autoresearch.candidate.flop import counting

    with counting() as flop:
        yield flop


def limit_memory(job: dict[str, Any]) -> None:
    """Have allocations fail past the track's `memory`, so that the program can say what it asked for (CUDA, POSIX)."""
    if job["memory"] and job["device"] == "cuda":
        import torch

        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, job["memory"] / total))
    elif job["memory"] and job["device"] == "cpu":
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


def serve(model: Any, link: Link) -> None:
    """Answer the referee's requests until it hangs up; where no memory can be shared, score on its behalf."""
    import torch

    from pytest_autoresearch.candidate.run import finish_queue
    from pytest_autoresearch.core.device_memory import DeviceMemory, Route
    from pytest_autoresearch.core.exchange import Exchange

    job = link.job
    shape = job["batch_size"], job["sequence_length"], job["vocab_size"]
    holder: mmap.mmap | DeviceMemory | None = None
    match job["route"]:
        case Route.IN_PROCESS:
            link.send(score_here(model, link))
            return
        case Route.DEVICE:
            holder = DeviceMemory(Exchange.sizes(*shape)[1], link.receive_file())
        case Route.HOST:
            holder = link.memory
    exchange = Exchange.over(link.memory, holder, *shape)
    for _ in link.lines:
        logits = answer(model, exchange.tokens, job)
        if exchange.logits is not None:
            exchange.logits.copy_(logits)
        del logits  # the next answer wants its room
        finish_queue(torch.device(job["device"]))
        link.send({"event": "logits", "flop": link.flop(), "memory": device_memory(job)})


def score_here(model: Any, link: Link) -> dict[str, Any]:
    """Score the model in its own process, with the referee's code and none of its distance. Returns the message."""
    import numpy as np

    from pytest_autoresearch.referee import scoring

    rows, job = link.receive_rows(), link.job
    token_bytes = np.array(json.loads(next(link.lines))["token_bytes"])

    def show(share: float) -> None:
        link.send({"event": "scoring", "done": share})

    def predict(tokens: Any) -> Any:
        return answer(model, tokens, job).float()

    try:
        val_bpb = scoring.score(predict, rows, token_bytes, job["batch_size"], show)
    except scoring.RuleBroken as broken:
        return {"event": "broken", "reason": str(broken)}
    except scoring.NotFinite as error:
        return {"event": "diverged", "reason": str(error)}
    return {"event": "scored", "val_bpb": val_bpb, "memory": device_memory(job)}


def answer(model: Any, tokens: Any, job: dict[str, Any]) -> Any:
    """Logits of tokens (B, T) int64: (B, T, vocab) of a float dtype, on the job's device."""
    import torch

    with torch.no_grad():
        output = model(tokens.to(job["device"], copy=True))
    if not isinstance(output, torch.Tensor):
        raise TypeError(f"the model returned {brief(output)}; it must return logits, a tensor")
    expected = *tokens.shape, job["vocab_size"]
    if output.shape != expected or not output.is_floating_point():
        raise ValueError(
            f"logits are {tuple(output.shape)} {output.dtype}; they must be (B, T, vocab) = {expected} of a float dtype"
        )
    return output


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
