"""Half of what attention reads comes from the token before.

Peng et al. (RWKV), arXiv 2305.13048.
"""

from baseline import *


class Attention(Attention):
    def heads(self, x: Tensor) -> tuple[Tensor, ...]:
        now, before = x.chunk(2, dim=-1)  # (B, T, C / 2) each
        return super().heads(torch.cat((now, F.pad(before, (0, 0, 1, -1))), dim=-1))
