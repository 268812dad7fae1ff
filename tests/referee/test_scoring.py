"""val_bpb against a plain reimplementation, and the probes against models that break their rules."""

import math
import runpy
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tiktoken
import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_autoresearch.referee import losses, probes
from pytest_autoresearch.referee.decoys import Decoys
from pytest_autoresearch.referee.order import Order
from pytest_autoresearch.referee.scoring import Predict, Score
from pytest_autoresearch.referee.scoring import score as score_of
from pytest_autoresearch.referee.secret import project_secret, secret_draw

TEXT = "für 你好 naïve\n" * 40 + "def f(x):\n\treturn x\r\n" * 40
VOCAB, LENGTH = 260, 32


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """What is computed here is too little to share, and each test has other sizes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


def score(
    predict: Predict,
    rows: np.ndarray,
    token_bytes: np.ndarray,
    batch_size: int,
    secret: int = 0,
    baseline_nats: list[float] | None = None,
) -> Score:
    return score_of(predict, rows, token_bytes, batch_size, np.random.default_rng(secret), baseline_nats)


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
    assert score(bigram, rows, token_bytes, 7).val_bpb == pytest.approx(plain_bpb(bigram, rows, encoding), rel=1e-6)


def test_a_uniform_model_scores_log2_vocab_times_tokens_over_bytes(rows: np.ndarray, token_bytes: np.ndarray) -> None:
    lengths = token_bytes * 3  # as if each token were three bytes long
    targets = rows[:, 1:].astype(int)
    tokens, total = int((lengths[targets] > 0).sum()), int(lengths[targets].sum())
    found = score(lambda t: torch.zeros(*t.shape, VOCAB), rows, lengths, 8)
    assert found.val_bpb == pytest.approx(math.log2(VOCAB) * tokens / total, rel=1e-6)


def test_the_batch_size_of_scoring_does_not_matter(rows: np.ndarray, token_bytes: np.ndarray) -> None:
    scores = [score(bigram, rows, token_bytes, size).val_bpb for size in (1, 5, len(rows), 10 * len(rows))]
    assert scores == pytest.approx([scores[0]] * 4, rel=1e-7)


def test_looking_ahead_is_seen(rows: np.ndarray, token_bytes: np.ndarray) -> None:
    def peeking(tokens: Tensor) -> Tensor:
        logits = torch.zeros(*tokens.shape, VOCAB)
        logits[:, :-1].scatter_(2, tokens[:, 1:, None], 9.0)
        return logits

    with pytest.raises(probes.RuleBroken, match="later"):
        score(peeking, rows, token_bytes, 8)


def test_statistics_over_the_whole_sequence_are_seen(rows: np.ndarray, token_bytes: np.ndarray) -> None:
    def global_mean(tokens: Tensor) -> Tensor:
        return bigram(tokens) + bigram(tokens).mean(dim=1, keepdim=True)

    with pytest.raises(probes.RuleBroken, match="later"):
        score(global_mean, rows, token_bytes, 8)


def test_learning_from_what_is_scored_is_seen(rows: np.ndarray, token_bytes: np.ndarray) -> None:
    counts = torch.zeros(VOCAB)

    def adapting(tokens: Tensor) -> Tensor:
        counts.index_add_(0, tokens.flatten(), torch.ones(tokens.numel()))
        return counts.log1p().expand(*tokens.shape, VOCAB)

    with pytest.raises(probes.RuleBroken):
        score(adapting, rows, token_bytes, 8)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_single_bad_logit_is_no_wildcard(rows: np.ndarray, token_bytes: np.ndarray, value: float) -> None:
    def bad(tokens: Tensor) -> Tensor:
        logits = bigram(tokens)
        logits[-1, -1, 0] = value
        return logits

    with pytest.raises(losses.NotFinite):
        score(bad, rows, token_bytes, 8)


def test_minus_infinity_is_a_mask_unless_it_hits_a_target(rows: np.ndarray, token_bytes: np.ndarray) -> None:
    def masked(tokens: Tensor) -> Tensor:
        logits = bigram(tokens)
        logits[..., 257:] = -math.inf
        return logits

    assert math.isfinite(score(masked, rows, token_bytes, 8).val_bpb)

    def blind(tokens: Tensor) -> Tensor:
        logits = bigram(tokens)
        logits[..., int(rows[0, 1])] = -math.inf
        return logits

    with pytest.raises(losses.NotFinite, match="infinite"):
        score(blind, rows, token_bytes, 8)


def test_every_request_is_a_whole_batch(rows: np.ndarray, token_bytes: np.ndarray) -> None:
    """Another shape would be another kernel, a compilation, or more flop a row where a call has a price of its own."""
    shapes = set()

    def predict(tokens: Tensor) -> Tensor:
        shapes.add(tuple(tokens.shape))
        return bigram(tokens)

    for size in (7, 3 * len(rows)):
        shapes.clear()
        score(predict, rows, token_bytes, size)
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
        score(peeking, long_rows, token_bytes, 8)


def test_honest_models_are_left_alone(token_bytes: np.ndarray) -> None:
    """Whatever the draw, and however few or short the rows are."""
    for seed, (count, length) in enumerate([(1, 1), (1, 2), (2, 3), (5, 8), (33, 16), (64, 17), (200, 32)] * 3):
        some = np.random.default_rng(seed).integers(0, 256, (count, length + 1)).astype(np.uint16)
        for size in (1, 2, 16):
            assert math.isfinite(score(bigram, some, token_bytes, size, seed).val_bpb)


# -- the order --


def test_the_order_of_asking_does_not_move_the_score(rows: np.ndarray, token_bytes: np.ndarray) -> None:
    assert len({score(bigram, rows, token_bytes, 8, secret).val_bpb for secret in range(20)}) == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_the_order_of_asking_moves_no_logit_of_the_cpu_baseline(threads: int) -> None:
    benchmark = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/row_order.py"))
    before = torch.get_num_threads()
    try:
        assert benchmark["moved_logits"](2, threads) == 0
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("count", "batch_size"), [(1, 1), (3, 1), (40, 2), (100, 16), (1024, 64), (10, 64)])
def test_every_row_is_asked_for_once_and_decoys_stand_anywhere_between(count: int, batch_size: int) -> None:
    orders = [Order.draw(count, batch_size, np.random.default_rng(secret)) for secret in range(40)]
    places = np.zeros(batch_size, dtype=int)
    for order in orders:
        assert sorted(order.items.ravel()) == list(range(order.items.size))
        places += (order.items >= count).sum(0)
        sources = order.sources(np.random.default_rng(0))
        assert sources.max() < count
        asked = order.requests()
        if count > batch_size:
            assert (asked[sources] != asked[count:]).all()
    assert places.min() > 0
    if batch_size > 8:
        assert ((order.items >= count).sum(1) > 0).all()
        first, last = np.array([[(order.items[i] >= count).sum() for i in (0, -1)] for order in orders]).mean(0)
        assert first >= last


def test_decoys_are_their_sources_up_to_the_cut_and_differ_by_tosses_after_it() -> None:
    text = np.random.default_rng(1).integers(0, 9, (200, 33)).astype(np.uint16)
    sources = np.arange(200)
    decoys = Decoys.make(text, sources, np.random.default_rng(2))
    put_in = 0
    for number, (row, cut) in enumerate(zip(decoys.rows, decoys.cut.tolist(), strict=True)):
        assert (row[: cut + 1] == text[number, : cut + 1]).all()
        assert row[cut + 1] != text[number, cut + 1]
    for number, place, there, other in zip(decoys.decoy, decoys.place, decoys.put_in, decoys.left_out, strict=True):
        assert decoys.rows[number, place] == there != other
        assert decoys.cut[number] + 1 < place < 32
        put_in += there > other
    assert len(decoys.place) > 400
    assert abs(put_in / len(decoys.place) - 0.5) < 0.1


def test_the_secret_is_made_once_and_for_the_user_alone(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: project_secret(tmp_path / "results"), range(16)))
    assert len(found) == 1
    path = tmp_path / "results/.secret"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"short")
    assert len(project_secret(path.parent)) == 32
    assert project_secret(path.parent) == path.read_bytes()
    (tmp_path / "file").touch()
    assert project_secret(tmp_path / "file") != project_secret(tmp_path / "file")  # no folder to keep it in


def test_the_order_follows_from_secret_program_seed_and_data() -> None:
    jobs = [(b"s", "program", 0, "key"), (b"t", "program", 0, "key"), (b"s", "program ", 0, "key")]
    jobs += [(b"s", "program", 1, "key"), (b"s", "program", 0, "yek"), (b"s", "program", 0, "key")]
    drawn = [secret_draw(*job).random() for job in jobs]
    assert drawn[0] == drawn[-1]
    assert len(set(drawn)) == 5


# -- noise: arithmetic that is not repeatable, as in bfloat16 on a GPU --


TOPICS = 64
"""Tokens of the made-up text in which each row has a topic, so that its later tokens tell something of the earlier."""


@pytest.fixture(scope="module")
def topical() -> np.ndarray:
    draw = np.random.default_rng(4)
    rows = [draw.choice(TOPICS, 129, p=draw.dirichlet(np.full(TOPICS, 0.5))) for _ in range(1024)]
    return np.array(rows, dtype=np.uint16)


def noisy(strength: float, generator: torch.Generator, noise: bool = True) -> Predict:
    """Fixed logits of about 4, rounded to bfloat16 after half a unit in the last place up or down. Tokens that occur
    in the row at least two places later are `strength` nats likelier."""
    table = torch.randn(TOPICS, TOPICS, generator=torch.Generator().manual_seed(0)) + 4

    def predict(tokens: Tensor) -> Tensor:
        logits = table[tokens]
        if noise:
            unit = 2 ** (logits.abs().log2().floor() - 7)
            logits = logits + unit * (torch.rand(logits.shape, generator=generator) - 0.5)
            logits = logits.bfloat16().float()
        if strength:
            later = F.one_hot(tokens, TOPICS).flip(1).cumsum(1).flip(1)[:, 2:].clamp(max=1)
            logits[:, :-2] += strength * later
        return logits

    return predict


def test_noise_of_bfloat16_is_no_cheating(topical: np.ndarray) -> None:
    generator = torch.Generator().manual_seed(1)
    for secret in range(200):
        assert math.isfinite(score(noisy(0, generator), topical[:96, :33], np.full(TOPICS, 3), 32, secret).val_bpb)


def test_a_peek_below_the_noise_is_found(topical: np.ndarray) -> None:
    """It is worth 0.0005 bpb, while noise moves each loss by 0.01 nats."""
    generator = torch.Generator().manual_seed(1)
    bits = [nats_of(noisy(strength, generator, noise=False), topical) for strength in (0, STRENGTH)]
    assert 0.0004 < bits[0] - bits[1] < 0.0006
    for secret in range(3):
        with pytest.raises(probes.RuleBroken, match="later"):
            score(noisy(STRENGTH, generator), topical, np.full(TOPICS, 3), 64, secret)


STRENGTH = 0.0035


@pytest.mark.parametrize("outliers", [0, 20])
def test_a_peek_at_the_next_token_hides_neither_in_earlier_noise_nor_behind_outliers(outliers: int) -> None:
    generator = torch.Generator().manual_seed(1)
    gains = 0.03 * torch.randn(1365, 128, generator=generator, dtype=torch.float64)
    cut = torch.randint(128, (1365,), generator=generator)
    gains[:outliers, 0] += 15 * torch.tensor([1.0, -1.0]).repeat(outliers // 2)
    gains[torch.arange(128) > cut[:, None]] = 0
    assert not probes.favours_true_futures(gains, cut)
    gains[torch.arange(1365), cut] += 0.01
    assert probes.favours_true_futures(gains, cut)


def test_what_comes_later_may_move_no_more_than_noise(topical: np.ndarray) -> None:
    """Else a program could make noise of its own, as large as it likes, and repeat it when it is asked again."""
    generator = torch.Generator().manual_seed(1)

    def moving(tokens: Tensor) -> Tensor:
        logits = noisy(0, generator)(tokens)
        return logits + 3.0 * F.one_hot(tokens.sum(1, keepdim=True) % TOPICS, TOPICS)

    with pytest.raises(probes.RuleBroken, match="later"):
        score(moving, topical[:96], np.full(TOPICS, 3), 32)


def nats_of(predict: Predict, rows: np.ndarray) -> float:
    tokens = torch.from_numpy(rows.astype(np.int64))
    loss = F.cross_entropy(predict(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    return float(loss) / math.log(2) / 3


def test_answers_at_random_name_the_usual_causes(rows: np.ndarray, token_bytes: np.ndarray) -> None:
    dropout = lambda t: F.dropout(bigram(t), 0.1)  # noqa: E731
    with pytest.raises(probes.RuleBroken, match=r"answers at random.*dropout without `training=`.*BatchNorm.*state"):
        score(dropout, rows, token_bytes, 8)


def test_answers_that_depend_on_the_place_in_the_batch_are_seen(rows: np.ndarray, token_bytes: np.ndarray) -> None:
    """Else a model could look ahead in some places of the batch alone, and call it noise."""

    def peeking(tokens: Tensor) -> Tensor:
        logits = bigram(tokens)
        logits[:4, :-1].scatter_(2, tokens[:4, 1:, None], 9.0)
        return logits

    with pytest.raises(probes.RuleBroken):
        score(peeking, rows, token_bytes, 8)


# -- learning while being scored --


class Learning:
    """Becomes better by so many nats a token from the first request to the last, and remembers what it has answered."""

    def __init__(self, gain: float, requests: int) -> None:
        self.gain, self.requests, self.asked = gain, requests, 0
        self.answers: dict[tuple[int, ...], float] = {}

    def __call__(self, tokens: Tensor) -> Tensor:
        self.asked += 1
        logits = bigram(tokens)
        for number, row in enumerate(tokens.tolist()):
            for place in range(len(row)):
                better = self.answers.setdefault(tuple(row[: place + 1]), self.gain * self.asked / self.requests)
                logits[number, place, : VOCAB // 2] += better
        return logits


def test_learning_is_seen_by_the_gain_over_the_baseline(token_bytes: np.ndarray) -> None:
    text = np.random.default_rng(3).integers(0, VOCAB // 2, (600, 17)).astype(np.uint16)
    honest = score(bigram, text, token_bytes, 16, 1)
    requests = len(Order.draw(600, 16, np.random.default_rng(0)).items)
    with pytest.raises(probes.RuleBroken, match="learned from held-out text"):
        score(Learning(0.5, requests), text, token_bytes, 16, 2, honest.row_nats.tolist())
    other = lambda tokens: bigram(tokens) * 0.9  # noqa: E731
    assert score(other, text, token_bytes, 16, 2, honest.row_nats.tolist()).val_bpb != honest.val_bpb


def test_few_rows_that_fare_much_better_late_are_seen(token_bytes: np.ndarray) -> None:
    draw = np.random.default_rng(0)
    gain, moment = torch.from_numpy(draw.normal(size=1024)), draw.random(1024)
    probes.check_growth(-gain, moment, None)
    late = torch.from_numpy((moment > 0.55) & (draw.random(1024) < 0.11))
    assert late.sum() < 60  # so few that all gains together hardly show it
    with pytest.raises(probes.RuleBroken, match="the later they are asked for"):
        probes.check_growth(-(gain + 6 * late), moment, None)


def test_false_alarms_are_as_rare_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a chance that can be observed: one in a hundred for all tests of the gain together."""
    monkeypatch.setattr(probes, "CHANCE", 0.01)
    alarms, draw = 0, np.random.default_rng(0)
    for _ in range(2000):
        try:
            probes.check_growth(torch.from_numpy(draw.standard_t(2, size=64)), draw.random(64), None)
        except probes.RuleBroken:
            alarms += 1
    assert alarms <= 30
