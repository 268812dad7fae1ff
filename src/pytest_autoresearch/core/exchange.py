"""The memory through which a referee asks and a candidate answers."""

import math
from dataclasses import dataclass
from mmap import mmap

import torch
from torch import Tensor

from pytest_autoresearch.core.device_memory import DeviceMemory


@dataclass(frozen=True)
class Exchange:
    """Where a referee puts tokens (B, T) int64 and its candidate the logits of them, (B, T, vocab) float32.

    Both sides map the same memory: the host's for the tokens, the host's or the device's for the logits.
    """

    tokens: Tensor
    logits: Tensor | None

    @staticmethod
    def sizes(batch_size: int, sequence_length: int, vocab_size: int) -> tuple[int, int]:
        """Bytes of the tokens and of the logits."""
        return batch_size * sequence_length * 8, batch_size * sequence_length * vocab_size * 4

    @classmethod
    def over(cls, memory: mmap, holder: mmap | DeviceMemory | None, *shape: int) -> "Exchange":
        """Views of the tokens in `memory` and of the logits in their holder, behind the tokens if that is the same.

        `shape` is (batch_size, sequence_length, vocab_size); both are as large as `sizes` says.
        """
        first, count = cls.sizes(*shape)[0], math.prod(shape)
        tokens = torch.frombuffer(memory, dtype=torch.int64, count=first // 8).view(shape[:2])
        if holder is None:
            return cls(tokens, None)
        if isinstance(holder, DeviceMemory):
            return cls(tokens, holder.tensor(count).view(shape))
        return cls(tokens, torch.frombuffer(holder, dtype=torch.float32, count=count, offset=first).view(shape))
