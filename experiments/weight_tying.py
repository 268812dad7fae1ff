"""The head shares its weights with the token embedding.

Press and Wolf, arXiv 1608.05859; Inan et al., arXiv 1611.01462.
"""

from baseline import *

TRACK = "cpu"


class GPT(GPT):
    def __init__(self, vocab_size: int, sequence_length: int) -> None:
        super().__init__(vocab_size, sequence_length)
        self.head.weight = self.embedding.token.weight
