"""Attention and MLP side by side instead of one after the other.

Wang and Komatsuzaki (GPT-J); Chowdhery et al. (PaLM), arXiv 2204.02311.
"""

from baseline import *

TRACK = "cpu"


class Block(Block):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(self.attention_norm(x)) + self.mlp(self.mlp_norm(x))
