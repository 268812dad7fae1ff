"""Rotary positions instead of learned ones.

Su et al. (RoFormer), arXiv 2104.09864.
"""

from baseline import *

TRACK = "cpu"


def rotate(x: Tensor) -> Tensor:  # (B, H, T, D)
    """Each pair of channels turns by an angle proportional to its position."""
    T, half = x.size(2), x.size(3) // 2
    frequency = 10_000.0 ** (-torch.arange(half, device=x.device) / half)
    angle = torch.outer(torch.arange(T, device=x.device), frequency)  # (T, D / 2)
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()), dim=-1)


class Embedding(Embedding):
    def __init__(self, vocab_size: int, sequence_length: int) -> None:
        super().__init__(vocab_size, sequence_length)
        del self.position

    def forward(self, tokens: Tensor) -> Tensor:
        return self.token(tokens)


class Attention(Attention):
    def heads(self, x: Tensor) -> tuple[Tensor, ...]:
        q, k, v = super().heads(x)
        return rotate(q), rotate(k), v
