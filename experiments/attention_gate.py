"""Each head's output passes a gate, so that a head can say nothing without attending to nothing.

Qiu et al., Gated Attention, arXiv 2505.06708; with few inputs as in KellerJordan/modded-nanogpt PR #117.
"""

from baseline import *

TRACK = "cuda"


class Attention(Attention):
    def __init__(self, value_embedding: ValueEmbedding | None) -> None:
        super().__init__(value_embedding)
        self.output_gate = Linear(GATE_CHANNELS, HEADS)

    def forward(
        self, x: Tensor, tokens: Tensor, rotary: tuple[Tensor, Tensor], mask: BlockMask | Tensor | None
    ) -> Tensor:
        q, k, v = self.heads(x)
        if self.value_embedding is not None:
            v = v + self.value_embedding(x, tokens)
        y = attention(norm(rotate(q, *rotary)), norm(rotate(k, *rotary)), v, mask)
        gate = 2 * torch.sigmoid(self.output_gate(x[..., :GATE_CHANNELS]))  # 1 at first
        return self.out((gate[..., None] * y).flatten(2))
