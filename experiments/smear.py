"""A little of the token before in each embedding, as far as a gate lets it.

KellerJordan/modded-nanogpt PR #130; taken in by nanochat (a825e63).
"""

from baseline import *

TRACK = "cuda"


class GPT(GPT):
    def __init__(self, vocab_size: int, sequence_length: int, device: torch.device) -> None:
        super().__init__(vocab_size, sequence_length, device)
        self.smear_gate = Linear(GATE_CHANNELS, 1).to(device)
        self.smear_scale = nn.Parameter(torch.zeros((), device=device))

    def embed(self, tokens: Tensor) -> Tensor:
        x = super().embed(tokens)
        gate = self.smear_scale * torch.sigmoid(self.smear_gate(x[..., :GATE_CHANNELS]))
        return x + gate * F.pad(x, (0, 0, 1, -1))
