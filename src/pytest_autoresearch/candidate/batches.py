"""Loading batches: a thread gathers the next batches and copies them to the device during a training step."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

AHEAD = 2
"""Batches gathered in advance. The number is fixed, so that random draws do not depend on the speed of the device."""


def feed(rows: np.ndarray, picks: Iterable[np.ndarray], device: torch.device) -> Iterator[Tensor]:
    """Yield a batch (B, L) int64 on `device` for each of `picks`, (B,) row numbers of `rows` (N, L) uint16.

    A thread gathers the batches from the memory-mapped rows. For CUDA it copies them from pinned memory on a separate
    stream, two bytes per token, so that neither the host nor the device waits.
    """
    copies = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def load(pick: np.ndarray) -> tuple[Tensor, torch.Event | None]:
        found = torch.from_numpy(rows[pick].view(np.int16))  # torch has few operations for uint16
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
            batch.record_stream(current)  # its memory is not reused before the step has read it
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
    """The 16 bits of each token, read without a sign, as int64."""
    return raw.to(torch.int64) & 0xFFFF
