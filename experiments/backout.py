"""The head does not see what the middle of the network has found: a share of it is taken away again.

KellerJordan/modded-nanogpt PR #140; taken in by nanochat (a825e63).
"""

from baseline import *

TRACK = "cuda"


class GPT(GPT):
    def __init__(self, vocab_size: int, sequence_length: int, device: torch.device) -> None:
        super().__init__(vocab_size, sequence_length, device)
        self.backout_scale = nn.Parameter(torch.full((), 0.2, device=device))

    def trunk(self, tokens: Tensor) -> Tensor:
        x = x0 = self.embed(tokens)
        for layer, block in enumerate(self.blocks):
            x = self.residual_scale[layer] * x + self.x0_scale[layer] * x0
            x = block(x, tokens, self.rotary, self.masks[layer])
            if layer == DEPTH // 2:
                middle = x
        return norm(x - self.backout_scale * middle)
