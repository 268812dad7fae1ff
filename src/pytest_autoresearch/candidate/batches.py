"""Batches on their way to the device: while one trains, the next ones are gathered and copied."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

AHEAD = 2
"""Batches that are gathered before they are asked for. A fixed number, so that the draws behind them are the same
however fast the device is."""


def feed(rows: np.ndarray, picks: Iterable[np.ndarray], device: torch.device) -> Iterator[Tensor]:
    """Yield the rows (N, L) uint16 that each of `picks`, (B,) row numbers, names: (B, L) int64 on `device`.

    A thread gathers them from the memory-mapped rows. On a CUDA device they go through pinned memory and are copied on
    a stream of their own, as they are, two bytes a token, so that neither the host nor the device waits for them.
    """
    copies = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def load(pick: np.ndarray) -> tuple[Tensor, torch.Event | None]:
        found = torch.from_numpy(rows[pick].view(np.int16))  # torch knows next to no operation on uint16
        if copies is None:
            return _tokens(found.to(device)), None
        with torch.cuda.stream(copies):
            batch = _tokens(found.pin_memory().to(device, non_blocking=True))
            return batch, copies.record_event()

    def arrived(loading: Future[tuple[Tensor, torch.Event | None]]) -> Tensor:
        batch, copied = loading.result()
        if copied is not None:
            current = torch.cuda.current_stream(device)
            current.wait_event(copied)  # the stream waits, the host does not
            batch.record_stream(current)  # its memory is not used again before the step has read it
        return batch

    loader = ThreadPoolExecutor(1, thread_name_prefix="batches")
    under_way: deque[Future[tuple[Tensor, torch.Event | None]]] = deque()
    try:
        for pick in picks:
            under_way.append(loader.submit(load, pick))
            if len(under_way) > AHEAD:
                yield arrived(under_way.popleft())
        while under_way:
            yield arrived(under_way.popleft())
    finally:
        loader.shutdown(wait=False, cancel_futures=True)


def _tokens(raw: Tensor) -> Tensor:
    """The 16 bits of each token as int64, none of them a sign."""
    return raw.to(torch.int64) & 0xFFFF
