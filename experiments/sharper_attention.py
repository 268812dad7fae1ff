"""Queries and keys 1.2 times as long as QK-norm leaves them: attention can decide more sharply.

nanochat (6ed7d1d and a825e63), found there by autoresearch; openai/parameter-golf PR #1418 finds a gain as well.
"""

from baseline import *

TRACK = "cuda"

SHARPNESS = 1.2
plain_attention = attention


def attention(q: Tensor, k: Tensor, v: Tensor, mask: BlockMask | Tensor | None) -> Tensor:
    return plain_attention(SHARPNESS * q, SHARPNESS * k, v, mask)
