"""val_bpb against a plain reimplementation, and the probes against models that break their rules."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import tiktoken
import torch
from torch import Tensor

from pytest_autoresearch.referee import losses, probes, scoring

TEXT = "für 你好 naïve\n" * 40 + "def f(x):\n\treturn x\r\n" * 40
VOCAB, LENGTH = 260, 32


@pytest.fixture(scope="module")
def encoding() -> tiktoken.Encoding:
    """Single bytes are the tokens, so that every multi-byte character is torn; four special tokens at the end."""
    specials = {f"<|reserved_{i}|>": 256 + i for i in range(4)}
    return tiktoken.Encoding(
        "bytes", pat_str=r"(?s).", mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens=specials
    )


@pytest.fixture(scope="module")
def rows(encoding: tiktoken.Encoding) -> np.ndarray:
    tokens = encoding.encode_ordinary(TEXT)
    tokens = [token for i, token in enumerate(tokens) for token in ([256, token] if i % 50 == 0 else [token])]
    count = len(tokens) // (LENGTH + 1)
    return np.array(tokens[: count * (LENGTH + 1)], dtype=np.uint16).reshape(count, LENGTH + 1)


@pytest.fixture(scope="module")
def token_bytes(encoding: tiktoken.Encoding) -> np.ndarray:
    return np.array([1] * 256 + [0] * 4)


def bigram(tokens: Tensor) -> Tensor:
    """Known logits: a fixed table looked up by the current token."""
    table = torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(0)) * 2
    return table[tokens]


def plain_bpb(predict: Callable[[Tensor], Tensor], rows: np.ndarray, encoding: tiktoken.Encoding) -> float:
    """One token at a time, in float64, byte lengths from the raw bytes of each token."""
    nats, count = 0.0, 0
    for row in rows.tolist():
        logits = predict(torch.tensor([row[:-1]]))[0].double().tolist()
        for position, target in enumerate(row[1:]):
            if target >= 256:
                continue
            top = max(logits[position])
            log_sum = top + math.log(math.fsum(math.exp(value - top) for value in logits[position]))
            nats += log_sum - logits[position][target]
            count += len(encoding.decode_single_token_bytes(target))
    return nats / (math.log(2) * count)


def test_val_bpb_agrees_with_a_plain_reimplementation(
    rows: np.ndarray, token_bytes: np.ndarray, encoding: tiktoken.Encoding
) -> None:
    assert scoring.score(bigram, rows, token_bytes, 7) == pytest.approx(plain_bpb(bigram, rows, encoding), rel=1e-6)


def test_a_uniform_model_scores_log2_vocab_times_tokens_over_bytes(rows: np.ndarray, token_bytes: np.ndarray) -> None:
    lengths = token_bytes * 3  # as if each token were three bytes long
    targets = rows[:, 1:].astype(int)
    tokens, total = int((lengths[targets] > 0).sum()), int(lengths[targets].sum())
    score = scoring.score(lambda t: torch.zeros(*t.shape, VOCAB), rows, lengths, 8)
    assert score == pytest.approx(math.log2(VOCAB) * tokens / total, rel=1e-6)


def test_the_batch_size_of_scoring_does_not_matter(rows: np.ndarray, token_bytes: np.ndarray) -> None:
    scores = [scoring.score(bigram, rows, token_bytes, size) for size in (1, 5, len(rows), 10 * len(rows))]
    assert scores == pytest.approx([scores[0]] * 4, rel=1e-7)


def test_looking_ahead_is_seen(rows: np.ndarray, token_bytes: np.ndarray) -> None:
    def peeking(tokens: Tensor) -> Tensor:
        logits = torch.zeros(*tokens.shape, VOCAB)
        logits[:, :-1].scatter_(2, tokens[:, 1:, None], 9.0)
        return logits

    with pytest.raises(probes.RuleBroken, match="later"):
        scoring.score(peeking, rows, token_bytes, 8)


def test_statistics_over_the_whole_sequence_are_seen(rows: np.ndarray, token_bytes: np.ndarray) -> None:
    def global_mean(tokens: Tensor) -> Tensor:
        return bigram(tokens) + bigram(tokens).mean(dim=1, keepdim=True)

    with pytest.raises(probes.RuleBroken, match="later"):
        scoring.score(global_mean, rows, token_bytes, 8)


def test_learning_from_what_is_scored_is_seen(rows: np.ndarray, token_bytes: np.ndarray) -> None:
    counts = torch.zeros(VOCAB)

    def adapting(tokens: Tensor) -> Tensor:
        counts.index_add_(0, tokens.flatten(), torch.ones(tokens.numel()))
        return counts.log1p().expand(*tokens.shape, VOCAB)

    with pytest.raises(probes.RuleBroken):
        scoring.score(adapting, rows, token_bytes, 8)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_single_bad_logit_is_no_wildcard(rows: np.ndarray, token_bytes: np.ndarray, value: float) -> None:
    def bad(tokens: Tensor) -> Tensor:
        logits = bigram(tokens)
        logits[-1, -1, 0] = value
        return logits

    with pytest.raises(losses.NotFinite):
        scoring.score(bad, rows, token_bytes, 8)


def test_minus_infinity_is_a_mask_unless_it_hits_a_target(rows: np.ndarray, token_bytes: np.ndarray) -> None:
    def masked(tokens: Tensor) -> Tensor:
        logits = bigram(tokens)
        logits[..., 257:] = -math.inf
        return logits

    assert math.isfinite(scoring.score(masked, rows, token_bytes, 8))

    def blind(tokens: Tensor) -> Tensor:
        logits = bigram(tokens)
        logits[..., int(rows[0, 1])] = -math.inf
        return logits

    with pytest.raises(losses.NotFinite, match="infinite"):
        scoring.score(blind, rows, token_bytes, 8)


def test_every_request_is_a_whole_batch(rows: np.ndarray, token_bytes: np.ndarray) -> None:
    """Another shape would be another kernel, a compilation, or more flop a row where a call has a price of its own."""
    shapes = set()

    def predict(tokens: Tensor) -> Tensor:
        shapes.add(tuple(tokens.shape))
        return bigram(tokens)

    for size in (7, 3 * len(rows)):
        shapes.clear()
        scoring.score(predict, rows, token_bytes, size)
        assert shapes == {(size, rows.shape[1] - 1)}


def test_looking_ahead_is_seen_where_answers_are_remembered_by_prefix(token_bytes: np.ndarray) -> None:
    """Then second looks agree, but a decoy in a row that was never asked for gives it away."""
    long_rows = np.random.default_rng(3).integers(0, 256, (200, 33)).astype(np.uint16)
    known: dict[tuple[int, ...], Tensor] = {}

    def peeking(tokens: Tensor) -> Tensor:
        logits = bigram(tokens)
        logits[:, :-1].scatter_(2, tokens[:, 1:, None], 9.0)
        for row, answer in zip(tokens.tolist(), logits, strict=True):
            for position in range(len(row)):
                answer[position] = known.setdefault(tuple(row[: position + 1]), answer[position].clone())
        return logits

    with pytest.raises(probes.RuleBroken, match="later"):
        scoring.score(peeking, long_rows, token_bytes, 8)


def test_honest_models_are_left_alone(token_bytes: np.ndarray) -> None:
    """Whatever the draw, and however few or short the rows are."""
    for seed, (count, length) in enumerate([(1, 1), (1, 2), (2, 3), (5, 8), (33, 16), (64, 17), (200, 32)] * 3):
        some = np.random.default_rng(seed).integers(0, 256, (count, length + 1)).astype(np.uint16)
        assert math.isfinite(scoring.score(bigram, some, token_bytes, 16))
