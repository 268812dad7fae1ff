"""Computes in bfloat16, in training and in answers."""

from baseline import *


class GPT(GPT):
    def forward(self, tokens: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(tokens)
