"""`autoresearch show --evidence`: what an experiment earned, its patch, its loss curves and the end of its log."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from pytest_autoresearch.cli.command import Command
from pytest_autoresearch.cli.history import to_the_minute, track_of
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.records import Verdict
from pytest_autoresearch.core.text import escaped, quoted
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.project import Options
from pytest_autoresearch.judging.trial import SEARCH_SEED
from pytest_autoresearch.judging.words import verdict_line
from pytest_autoresearch.programs.compare import unified_diff
from pytest_autoresearch.programs.spelling import did_you_mean
from pytest_autoresearch.research.history import History

BLOCKS, GAP = "▁▂▃▄▅▆▇█", " "
WIDTH = 50
"""Columns of a loss curve."""
LOG_LINES, LOG_BYTES = 10, 16_384
"""The most lines of a log that are shown, and the most bytes of its end that are read."""

Curve = Sequence[float | None]


@dataclass(frozen=True)
class Run:
    """One run: its seed, and the mean training losses in each hundredth of the budget, None in a gap.

    `baseline` holds those of the baseline that the program met; None if they are unknown.
    """

    seed: int
    program: Curve
    baseline: Curve | None


@dataclass(frozen=True)
class Report:
    """All that is known of an experiment. `verdicts` are oldest first, and the rest belongs to the latest.

    `path`, `patch` or `log` is None if the program, the baseline that it met, or the log is no longer there.
    """

    verdicts: list[Verdict]
    baseline: str
    path: str | None
    patch: str | None
    runs: list[Run]
    log_path: str
    log: list[str] | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        verdicts, runs = [verdict.as_dict() for verdict in self.verdicts], [vars(run) for run in self.runs]
        return vars(self) | {"verdicts": verdicts, "runs": runs}


def show_evidence(command: Command, name: str, as_json: bool) -> None:
    """Print the evidence of an experiment, of which there may be no file any more. UsageError if it has no verdict."""
    looked = replace(command, track=command.track and command.track.partition("@")[0])  # its project, for a quick look
    context = looked.context
    found = collect(context, verdicts_on(context, command, experiment_name(context, name)))
    if as_json:
        print(json.dumps(found.as_dict(), indent=1))
    else:
        print(*lines_of(found), sep="\n")


def experiment_name(context: Context, name: str) -> str:
    """`rmsnorm`, where `rmsnorm.py`, `experiments/rmsnorm.py` or a node id such as `sweep.py::sweep[07]` was given."""
    path, _, item = name.partition("::")
    return item or path.removeprefix(f"{context.relative(context.project.experiments)}/").removesuffix(".py")


def verdicts_on(context: Context, command: Command, name: str) -> list[Verdict]:
    """The verdicts on an experiment, oldest first: on the track, else on the one where it was judged last."""
    track = track_of(command)
    if found := context.evidence.verdicts(track, name):
        return found
    others = [] if command.track else [path.name for path in context.evidence.folder.glob("[!.]*/")]
    elsewhere = [found for other in others if (found := context.evidence.verdicts(other, name))]
    if elsewhere:
        return max(elsewhere, key=lambda found: found[-1].finished_at)
    entries = History.read(context.ledger, track).entries
    hint = f"`{Options(track=command.track).on_track('autoresearch history --trials')}` lists all"
    if any(entry.experiment == name for entry in entries):
        raise UsageError(f"{name}: its evidence is gone from {context.relative(context.evidence.folder)}/; {hint}")
    hint = did_you_mean(name, {entry.experiment for entry in entries}) or hint
    raise UsageError(f"{name}: no verdict on track {track}; {hint}")


def collect(context: Context, verdicts: list[Verdict]) -> Report:
    """Read the evidence of the latest verdict."""
    latest, evidence = verdicts[-1], context.evidence
    folder = context.project.root / latest.evidence
    seeds = sorted(int(path.name[5:]) for path in folder.glob("seed-*") if path.name[5:].isdigit())[: latest.runs]
    program = evidence.program(latest, seeds[0]) if seeds else None
    sha, current = latest.baseline_sha, context.baseline_program
    baseline = current.source if current.sha == sha else evidence.source(sha)
    log = folder / f"seed-{seeds[-1] if seeds else 0}" / "log.txt"
    return Report(
        verdicts=verdicts,
        baseline=History.read(context.ledger, latest.track).baseline_names.get(sha, sha[:7]),
        path=f"{latest.evidence}/seed-{seeds[0]}/program.py" if program else None,
        patch=unified_diff(baseline, program.source, "baseline", latest.experiment) if program and baseline else None,
        runs=[
            Run(seed, curve, evidence.curve(latest.track, sha, seed))
            for seed, curve in zip(seeds, latest.stats.curve, strict=False)
        ],
        log_path=context.relative(log),
        log=last_lines(log),
    )


def last_lines(path: Path) -> list[str] | None:
    """The last lines of a log; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            return file.read().decode(errors="replace").splitlines()[-LOG_LINES:]
    except OSError:
        return None


# -- in words --


def lines_of(found: Report) -> list[str]:
    """The evidence as lines that print. What the program wrote stands behind a mark."""
    *earlier, latest = found.verdicts
    lines = [f"{to_the_minute(verdict.finished_at)} {verdict_line(verdict)}" for verdict in earlier]
    lines += [""] * bool(earlier)
    lines += [f"{latest.experiment} on track {latest.track}, {to_the_minute(latest.finished_at)} UTC"]
    lines += [verdict_line(latest), *quoted(latest.detail)]
    if not latest.runs:
        return [escaped(line) for line in [*lines, "", "it was not run"]]
    lines += ["", f"program: {found.path or 'no longer there'}"]
    met = "the first" if found.baseline == "baseline" else found.baseline
    if found.patch is None:
        gone = "it" if found.path is None else f"the baseline that it met, {met},"
        lines.append(f"patch: none, because {gone} is no longer there")
    else:
        lines += [f"patch against the baseline that it met, {met}:", ""]
        lines += [line.expandtabs() for line in found.patch.removesuffix("\n").split("\n")]
    curves = [line for run in found.runs for line in curve_lines(run)]
    lines += ["", "training loss over the budget, in nats per token:", *curves] if curves else []
    state = ", which is no longer there" if found.log is None else ", which is empty" if not found.log else ""
    lines += ["", f"log: {found.log_path}{state}"]
    return [escaped(line) for line in [*lines, *quoted("\n".join(found.log or []))]]


def curve_lines(run: Run) -> list[str]:
    """One line for the program and one for the baseline, on one scale: `seed 0  █▅▃▂▁▁  5.545 → 2.345`."""
    known = {seed_name(run.seed): run.program} | ({"baseline": run.baseline} if run.baseline else {})
    losses = [loss for curve in known.values() for loss in curve if loss is not None]
    if not losses:
        return []
    margin = max(map(len, known))
    width = min(WIDTH, max(sum(loss is not None for loss in curve) for curve in known.values()))  # few steps: no gaps
    return [
        f"  {name:<{margin}}  {blocks(curve, min(losses), max(losses), width):<{width}}  {ends(curve)}"
        for name, curve in known.items()
    ]


def seed_name(seed: int) -> str:
    """`seed 0`, or `search seed`, on which a sweep's trials train."""
    return "search seed" if seed == SEARCH_SEED else f"seed {seed}"


def blocks(curve: Curve, low: float, high: float, width: int = WIDTH) -> str:
    """A curve as block characters between `low` and `high`; a space where there is no loss."""
    width = min(width, len(curve))
    edges = [round(number * len(curve) / width) for number in range(width + 1)]
    drawn = ""
    for start, end in pairwise(edges):
        part = [loss for loss in curve[start:end] if loss is not None]
        share = (sum(part) / len(part) - low) / (high - low) if part and high > low else 0.0
        drawn += BLOCKS[min(int(share * len(BLOCKS)), len(BLOCKS) - 1)] if part else GAP
    return drawn


def ends(curve: Curve) -> str:
    """The first and the last loss."""
    losses = [loss for loss in curve if loss is not None]
    return f"{losses[0]:.3f} → {losses[-1]:.3f}" if losses else "no loss"
