"""What attention brings loses the part that each position has already, along its own value.

Zhai, Exclusive Self Attention, arXiv 2603.09078; learnable in KellerJordan/modded-nanogpt, records/track_1_short,
2026-05-07, where it saves 2 % of the steps.
"""

from baseline import *

TRACK = "cuda"

plain_attention = attention


def attention(q: Tensor, k: Tensor, v: Tensor, mask: BlockMask | Tensor | None) -> Tensor:
    y = plain_attention(q, k, v, mask)
    own = F.normalize(v, dim=-1).repeat_interleave(HEADS // KV_HEADS, dim=2)
    return y - (y * own).sum(-1, keepdim=True) * own
