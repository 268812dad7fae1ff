"""Queries and keys are normalized before they meet.

Henry et al., arXiv 2010.04245; with the RMS norm of Dehghani et al., arXiv 2302.05442.
"""

from baseline import *

TRACK = "cpu"


class Attention(Attention):
    def heads(self, x: Tensor) -> tuple[Tensor, ...]:
        q, k, v = super().heads(x)
        return F.rms_norm(q, (q.size(-1),)), F.rms_norm(k, (k.size(-1),)), v
