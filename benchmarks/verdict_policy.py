"""Which rule of keeping an experiment is worth its runs? Simulated nights of 60 experiments, one after the other.

    .venv/bin/python benchmarks/verdict_policy.py [--nights 2000] [--noise 0.0088] [--order 0.013]

A run scores what its program is worth, plus the luck of its seed's order of the data, which every program shares, plus
luck of its own. `--noise` is the standard deviation of a paired difference of two programs that are worth the same
(benchmarks/aa_test.py measures it), `--order` that of the shared part. A kept program becomes the baseline, and its
scores the record. Prints one table in Markdown:

- kept where nothing works: of 60 experiments without any effect, how many are kept. Each is a false keep.
- few gains: one experiment in 20 is a gain (exponential, 1.4 noise on average), the others lose as much.
- many gains: one in 10 is a gain, three in 10 do nothing, the others lose (exponential, 2.8 noise on average).
- gain: how much the baseline truly improves in 100 runs, in units of the noise.
- claimed: how much more the records say than the programs are worth.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from tabulate import tabulate

from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.judging.verdict import FUTILITY, decide

EXPERIMENTS = 60
Train = Callable[[int], float]
"""The score of a program for a seed."""


@dataclass(frozen=True)
class Rule:
    """`judge` has an experiment trained as often as it wants; returns whether it is kept, and its scores."""

    name: str
    seeds: int
    judge: Callable[[list[float], Train], tuple[bool, list[float]]]


def greedy(record: list[float], train: Train) -> tuple[bool, list[float]]:
    """Below the record on one run: the rule of the original."""
    score = train(0)
    return score < record[0], [score]


def delta_and_confirm(least: float, again: float) -> Callable[[list[float], Train], tuple[bool, list[float]]]:
    """Below the record by at least `least`, and by at least `again` on another seed."""

    def judge(record: list[float], train: Train) -> tuple[bool, list[float]]:
        scores = [train(0)]
        if scores[0] >= record[0] - least:
            return False, scores
        scores.append(train(1))
        return scores[1] < record[1] - again, scores

    return judge


def ours(
    alpha: float, noise: float | None, futility: float
) -> Callable[[list[float], Train], tuple[bool, list[float]]]:
    """`pytest_autoresearch.judging.verdict.decide`, the one that experiments are judged by."""

    def judge(record: list[float], train: Train) -> tuple[bool, list[float]]:
        scores: list[float] = []
        while True:
            decision = decide(record, scores, alpha, noise, futility=futility)
            if decision.outcome:
                return decision.outcome is Outcome.KEPT, scores
            scores.append(train(len(scores)))

    return judge


def rules(noise: float) -> list[Rule]:
    found = [Rule("greedy", 1, greedy)]
    for again in (0.0, noise):
        name = "below by a noise, confirmed" + " by as much" * bool(again)
        found.append(Rule(name, 2, delta_and_confirm(noise, again)))
    for seeds, alpha, futility, known in (
        (3, 0.05, 0.5, None),
        (3, 0.05, FUTILITY, None),
        (2, 0.05, FUTILITY, noise),
        (3, 0.05, 0.5, noise),
        (3, 0.05, FUTILITY, noise),
        (3, 0.05, 0.1, noise),
        (3, 0.02, FUTILITY, noise),
        (3, 0.01, FUTILITY, noise),
        (4, 0.05, FUTILITY, noise),
        (5, 0.05, FUTILITY, noise),
    ):
        name = f"ours: {seeds} seeds, α {alpha}, stop at p {futility}" + ", noise unknown" * (known is None)
        found.append(Rule(name, seeds, ours(alpha, known, futility)))
    return found


def nothing(draw: np.random.Generator) -> float:
    return 0.0


def few_gains(draw: np.random.Generator) -> float:
    return float((-1 if draw.random() < 0.05 else 1) * draw.exponential(1.4))


def many_gains(draw: np.random.Generator) -> float:
    kind = draw.random()
    return float(-draw.exponential(1.4) if kind < 0.1 else draw.exponential(2.8) if kind > 0.4 else 0.0)


@dataclass
class Tally:
    false_keeps: int = 0
    runs: int = 0
    gain: float = 0.0
    claimed: float = 0.0


def simulate(
    rule: Rule, effect: Callable[[np.random.Generator], float], nights: int, noise: float, order: float
) -> Tally:
    """Nights under one rule. Every rule sees the same nights."""
    tally = Tally()
    for night in range(nights):
        draw = np.random.default_rng(night)
        effects = [noise * effect(draw) for _ in range(EXPERIMENTS)]
        luck = draw.normal(0, noise / np.sqrt(2), (EXPERIMENTS + 1, rule.seeds)) + draw.normal(0, order, rule.seeds)
        worth, record = 0.0, luck[-1].tolist()
        began = fmean(record)
        for change, own in zip(effects, luck, strict=False):
            runs: list[int] = []

            def train(seed: int, change: float = change, own: np.ndarray = own, runs: list[int] = runs) -> float:
                runs.append(seed)
                return worth + change + float(own[seed])  # noqa: B023  read at once

            kept, scores = rule.judge(record, train)
            tally.runs += len(runs)
            if kept:
                worth, record = worth + change, scores
                tally.false_keeps += change >= 0
        tally.gain -= worth
        tally.claimed += began - fmean(record)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nights", type=int, default=2000)
    parser.add_argument("--noise", type=float, default=0.0088)
    parser.add_argument("--order", type=float, default=0.013)
    arguments = parser.parse_args()
    noise = arguments.noise
    rows = []
    for rule in rules(noise):
        row: list[str] = [rule.name]
        for effect in (nothing, few_gains, many_gains):
            tally = simulate(rule, effect, arguments.nights, noise, arguments.order)
            per_experiment = tally.runs / arguments.nights / EXPERIMENTS
            row += [f"{tally.false_keeps / arguments.nights:.2f}", f"{per_experiment:.2f}"]
            if effect is not nothing:
                row += [f"{tally.gain / noise / tally.runs * 100:.2f}", f"{tally.claimed / tally.gain - 1:+.0%}"]
        rows.append(row)
    head = ["rule", "nothing works: kept", "runs each"]
    for kind in ("few gains", "many gains"):
        head += [f"{kind}: false keeps", "runs each", "gain", "claimed"]
    print(
        f"{arguments.nights} nights of {EXPERIMENTS} experiments; noise {noise:g}, order {arguments.order:g} val_bpb\n"
    )
    print(tabulate(rows, headers=head, tablefmt="pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
