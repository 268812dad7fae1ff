"""The batches of a run. The referee draws them, so that a program reads no more of the text than it is given."""

import numpy as np
from numpy.typing import NDArray

from pytest_autoresearch.core.protocol import check_draw

Rows = NDArray[np.uint16]


class Batches:
    """Draws batches of the training rows, in an order that follows from the seed alone."""

    def __init__(self, rows: Rows, seed: int) -> None:
        """`rows` (N, T + 1) may be memory-mapped."""
        self._rows = rows
        self._random = np.random.default_rng(seed)
        self._length = self._usual_length = rows.shape[1] - 1
        self._coming = np.empty(0, dtype=np.int64)  # numbers of the sequences that are left of this epoch

    def draw(self, batch_size: int, sequence_length: int) -> Rows:
        """The next batch, (batch_size, sequence_length + 1). ValueError if there can be no such batch.

        At the track's own length each sequence is a packed row. For any other length the rows are joined in order and
        cut anew. Each epoch is a new permutation; if one ends within a batch, the next one fills it.
        """
        check_draw(batch_size, sequence_length, self._usual_length, self._rows.size)
        sequences = self._cut(sequence_length)
        if sequence_length != self._length:
            self._length, self._coming = sequence_length, self._coming[:0]
        epochs = -(-(batch_size - len(self._coming)) // len(sequences))
        permutations = [self._random.permutation(len(sequences)) for _ in range(epochs)]
        coming = np.concatenate([self._coming, *permutations])
        self._coming = coming[batch_size:]
        drawn: Rows = sequences[coming[:batch_size]]
        return drawn

    def _cut(self, length: int) -> Rows:
        """All sequences of a length: (N, length + 1), a view of the rows."""
        if length == self._usual_length:
            return self._rows
        return np.lib.stride_tricks.sliding_window_view(self._rows.reshape(-1), length + 1)[::length]
