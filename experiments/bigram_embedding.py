"""An embedding of each pair of tokens, found by its hash, added before every block.

KellerJordan/modded-nanogpt PR #201, after DeepSeek's Engram, arXiv 2601.07372; the sizes of nanochat, dev/LOG.md,
2026-01-27, where it was a gain in small models.
"""

from baseline import *

TRACK = "cuda"

BIGRAMS = 5  # entries of the table per kind of token
BIGRAM_INIT = 0.1  # of the scale of each block


class GPT(GPT):
    def __init__(self, vocab_size: int, sequence_length: int, device: torch.device) -> None:
        super().__init__(vocab_size, sequence_length, device)
        self.bigram = nn.Embedding(BIGRAMS * vocab_size, WIDTH).to(device)
        self.bigram_scale = nn.Parameter(torch.full((DEPTH,), BIGRAM_INIT, device=device))

    def trunk(self, tokens: Tensor) -> Tensor:
        x = x0 = self.embed(tokens)
        mixed = (36_313 * tokens) ^ (27_191 * F.pad(tokens, (1, -1)))
        pairs = self.bigram(mixed % self.bigram.num_embeddings).to(x.dtype)
        for layer, block in enumerate(self.blocks):
            x = self.residual_scale[layer] * x + self.x0_scale[layer] * x0 + self.bigram_scale[layer] * pairs
            x = block(x, tokens, self.rotary, self.masks[layer])
        return norm(x)


plain_init_weights = init_weights


def init_weights(model: nn.Module) -> None:
    """The new table says nothing at first."""
    plain_init_weights(model)
    nn.init.zeros_(model.bigram.weight)
