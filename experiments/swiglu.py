"""SwiGLU: a gated MLP, two thirds as wide so that it costs the same.

Shazeer, arXiv 2002.05202.
"""

from baseline import *

TRACK = "cpu"

MLP_WIDTH = MLP_WIDTH * 2 // 3


class MLP(MLP):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, MLP_WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.silu(self.gate(x)) * self.up(x))
