"""The shared memory between referee and candidate: tokens one way, logits the other."""

import math
from mmap import mmap

import torch
from torch import Tensor

from pytest_autoresearch.core.device_memory import DeviceMemory

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""The types that logits in the shared memory may have, by their names in messages."""


class Exchange:
    """The referee writes tokens (B, T) int64 here, and the candidate writes their logits (B, T, vocab).

    Both sides map the same memory: the host's for the tokens, the host's or the device's for the logits. It has room
    for logits in float32. Logits in bfloat16 or float16 keep their type and take half of the room.
    """

    def __init__(self, memory: mmap, device: DeviceMemory | None, *shape: int) -> None:
        """Make views of the host's `memory`, and of the `device` memory if the logits lie there.

        `shape` is (batch_size, sequence_length, vocab_size). Without device memory the logits follow the tokens in the
        host's memory. Both memories must be at least as large as `sizes` says.
        """
        first, count = self.sizes(*shape)[0], math.prod(shape)
        self._shape = shape
        self.tokens = torch.frombuffer(memory, dtype=torch.int64, count=first // 8).view(shape[:2])
        self._logits = (
            device.tensor(count) if device else torch.frombuffer(memory, dtype=torch.float32, count=count, offset=first)
        )

    @staticmethod
    def sizes(batch_size: int, sequence_length: int, vocab_size: int) -> tuple[int, int]:
        """Bytes of the tokens and of the logits."""
        return batch_size * sequence_length * 8, batch_size * sequence_length * vocab_size * 4

    def logits(self, dtype: str) -> Tensor:
        """The logits, (B, T, vocab) of one of `DTYPES`: a view of the memory, not a copy."""
        return self._logits.view(DTYPES[dtype])[: math.prod(self._shape)].view(self._shape)

    def answer(self, logits: Tensor) -> str:
        """Write logits (B, T, vocab) of any float type. Returns the name of their type there, one of `DTYPES`."""
        dtype = next((name for name, known in DTYPES.items() if known == logits.dtype), "float32")
        self.logits(dtype).copy_(logits)
        return dtype
