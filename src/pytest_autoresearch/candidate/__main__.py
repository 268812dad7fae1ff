"""Entry point of the untrusted process: `python -m pytest_autoresearch.candidate SOCKET BUFFER PROGRAM`.

SOCKET and BUFFER are inherited descriptors, PROGRAM is the path of the source. Reads one job from the socket, trains
the program, then answers with logits until the referee hangs up. `core.protocol` defines the messages.
"""

import gc
import io
import mmap
import os
import random
import socket
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_autoresearch.candidate.system_calls import confine
from pytest_autoresearch.candidate.watcher import leave_keyring, volunteer_for_oom, watch
from pytest_autoresearch.core import protocol


@dataclass
class Link:
    """The connection with the referee: the socket, the shared memory, the path of the program and the job."""

    channel: socket.socket
    memory: mmap.mmap
    incoming: "io.BufferedReader[socket.SocketIO]"
    program: Path
    job: protocol.Job
    flop: Callable[[], int] = lambda: 0
    busy: threading.Lock = field(default_factory=threading.Lock)  # a program may have threads of its own
    asking: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, channel: socket.socket, memory: mmap.mmap, program: Path) -> "Link":
        """The connection, once the referee has sent the job."""
        incoming = io.BufferedReader(channel.makefile("rb", buffering=0), 1 << 20)
        job = protocol.decode(incoming.readline())
        assert isinstance(job, protocol.Job)
        return cls(channel, memory, incoming, program, job)

    def send(self, message: protocol.Message) -> None:
        with self.busy:
            self.channel.sendall(protocol.encode(message))

    def draw(self, wanted: protocol.Draw) -> tuple[bytearray, float]:
        """Ask the referee for a batch. Returns its tokens, none if the budget is spent, and the progress before it."""
        with self.asking:
            self.send(wanted)
            answer = protocol.decode(self.incoming.readline())
            assert isinstance(answer, protocol.Batch)
            rows = bytearray(answer.size)
            self.incoming.readinto(rows)
        return rows, answer.progress

    def receive_file(self) -> int:
        """The descriptor of the device memory, which the referee sends next."""
        _, (file,), *_ = socket.recv_fds(self.channel, 1, 1)
        return file


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    memory = mmap.mmap(int(sys.argv[2]), 0)
    volunteer_for_oom()
    leave_keyring()
    watch(channel)
    link = Link.open(channel, memory, Path(sys.argv[3]))
    confine(channel, starts_processes=link.job.budget.unit != "flop")
    try:
        # Everything from here on is counted: also work between batches, after the last batch, and in answers.
        with count_flop(link.job.budget.unit == "flop") as link.flop:
            serve(train(link), link)
    except BaseException as error:  # SystemExit and KeyboardInterrupt, too, end a run
        link.send(describe(error, str(link.program)))
        sys.exit(1)


def train(link: Link) -> Any:
    """Import the program and train it. Returns what its `train` returned: tokens (B, T) → logits (B, T, vocab)."""
    import numpy as np
    import torch

    from pytest_autoresearch.candidate.run import Run, finish_queue

    job = link.job
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    np.random.seed(job.seed)
    random.seed(job.seed)
    limit_memory(job)
    run = Run(
        device=job.device,
        seed=job.seed,
        vocab_size=job.vocab_size,
        sequence_length=job.sequence_length,
        train_tokens=job.train_tokens,
        amount=job.budget.amount,
        draw=link.draw,
        count_flop=link.flop,
        send=link.send,
    )
    program = load_program(link.program)
    if not callable(getattr(program, "train", None)):
        raise TypeError("the program defines no function `train`")
    model = program.train(run)
    finish_queue(run.device)
    run._close()
    if not callable(model):
        raise TypeError(f"`train` returned {brief(model)}; it must return a callable: tokens (B, T) → logits")
    if isinstance(model, torch.nn.Module):
        model.eval()  # dropout and the like are for training
    if job.device == "cuda":  # free the memory that training has left: the referee needs room to score
        gc.collect()
        torch.cuda.empty_cache()
    link.send(protocol.Trained(link.flop(), device_memory(job)))
    return model


def device_memory(job: protocol.Job) -> int:
    """Peak bytes of tensors on a GPU so far; 0 on other devices, where the referee measures memory itself."""
    import torch

    return torch.cuda.max_memory_allocated() if job.device == "cuda" else 0


@contextmanager
def count_flop(wanted: bool) -> Iterator[Callable[[], int]]:
    """Count the flop of a block. Yields a function that returns the total so far; it is 0 unless `wanted`."""
    if not wanted:
        yield lambda: 0
        return
    os.environ["TORCH_COMPILE_DISABLE"] = "1"  # the counter does not see compiled code
    from pytest_autoresearch.candidate.flop import counting

    with counting() as flop:
        yield flop


def limit_memory(job: protocol.Job) -> None:
    """Make allocations beyond the track's memory limit fail, so that errors say how much was asked (CUDA, POSIX)."""
    if job.memory and job.device == "cuda":
        import torch

        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, job.memory / total))
    elif job.memory and job.device == "cpu":
        with suppress(ImportError, OSError, ValueError):
            import resource

            resource.setrlimit(resource.RLIMIT_DATA, (int(job.memory),) * 2)


def load_program(path: Path) -> types.ModuleType:
    """Run the program's source as the module `program`. It is registered, so that dataclasses and pickling work."""
    module = types.ModuleType("program")
    module.__file__ = str(path)
    sys.modules["program"] = module
    source = path.read_text(encoding="utf-8")  # from bytes Python would obey `# coding:`, and find code in comments
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module


def serve(model: Any, link: Link) -> None:
    """Answer the referee's requests until it hangs up."""
    import torch

    from pytest_autoresearch.candidate.run import finish_queue
    from pytest_autoresearch.core.device_memory import DeviceMemory
    from pytest_autoresearch.core.exchange import Exchange

    job = link.job
    shape = job.batch_size, job.sequence_length, job.vocab_size
    shared = DeviceMemory(Exchange.sizes(*shape)[1], link.receive_file()) if job.shares_device else None
    exchange = Exchange(link.memory, shared, *shape)
    for _ in link.incoming:
        logits = answer(model, exchange.tokens, job)
        dtype = exchange.answer(logits)
        del logits  # the next answer needs the memory
        finish_queue(torch.device(job.device))
        link.send(protocol.Answered(link.flop(), device_memory(job), dtype))


def answer(model: Any, tokens: Any, job: protocol.Job) -> Any:
    """Logits of tokens (B, T) int64: (B, T, vocab) of a float dtype, on the job's device. TypeError, ValueError."""
    import torch

    with torch.no_grad():
        output = model(tokens.to(job.device, copy=True))
    if not isinstance(output, torch.Tensor):
        raise TypeError(f"the model returned {brief(output)}; it must return logits, a tensor")
    expected = *tokens.shape, job.vocab_size
    if output.shape != expected or not output.is_floating_point():
        raise ValueError(
            f"logits are {tuple(output.shape)} {output.dtype}; they must be (B, T, vocab) = {expected} of a float dtype"
        )
    return output


def describe(error: BaseException, program: str) -> protocol.Raised:
    """The message to send about an exception: one line for the verdict, and the frames that lie in the program."""
    what = "".join(traceback.format_exception_only(error)).strip()
    trace = traceback.TracebackException.from_exception(error)
    trace.stack = traceback.StackSummary.from_list([frame for frame in trace.stack if frame.filename == program])
    return protocol.Raised(  # cut: an exception may hold megabytes of text
        kind=type(error).__name__,
        error=what.splitlines()[-1 if isinstance(error, SyntaxError) else 0][:1000],
        traceback=("".join(trace.format(chain=False)) if trace.stack else what)[:20_000],
    )


def brief(value: object) -> str:
    """A value in two words, for an error message."""
    return "None" if value is None else f"a {type(value).__name__}"


if __name__ == "__main__":
    main()
