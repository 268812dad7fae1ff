"""What a loop checks and says before it begins."""

from collections.abc import Sequence

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.text import counted, duration, one_line
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.session import check_context
from pytest_autoresearch.loop.commits import check_repository
from pytest_autoresearch.loop.limits import LoopOptions
from pytest_autoresearch.loop.presets import Preset
from pytest_autoresearch.loop.pytest_options import check_with_pytest
from pytest_autoresearch.loop.words import dollars, queue_words


def check(context: Context, agent: Preset, options: LoopOptions) -> None:
    """UsageError if nothing can be judged here, or the options ask for what cannot be had."""
    if options.dollars is not None and not agent.says_dollars:
        raise UsageError(
            f"--cost {options.dollars:g}: the agent {one_line(agent.name)} does not say what it costs in dollars; "
            "limit --experiments or --hours instead"
        )
    check_context(context)
    if context.isolation.kind != "sandbox" and context.options.sandbox != "off":
        raise UsageError(
            f"candidates would run without a sandbox here ({one_line(context.isolation.words)}), all night and without "
            "anybody looking: install bubblewrap, or add `-- --ar-sandbox off` if that is meant"
        )
    if options.commit:
        check_repository(context)
    if options.pytest_options:
        check_with_pytest(context.project, options.pytest_options)


def opening_lines(
    context: Context, agent: Preset, options: LoopOptions, record: float | None, waiting: Sequence[str]
) -> list[str]:
    """The setting in which a loop begins: track, baseline, sandbox, agent, limits, and what waits already."""
    track, path = context.track, context.relative(context.baseline.path)
    score = "has no record here yet, so it is recorded first" if record is None else f"val_bpb {record:.4f}"
    lines = [
        f"track {one_line(track.name)}, {track.budget} a run, {counted(track.seeds, 'seed')}",
        f"baseline {path}: {score}",
        f"experiments run in: {one_line(context.isolation.words)}",
    ]
    if context.isolation.kind != "sandbox":
        lines[-1] = f"experiments run without a sandbox, as asked: they can read and write what you can ({path} too)"
    if context.provisional:
        lines.append(f"nothing is promoted: {one_line(context.provisional)}")
    elif not context.options.promote:
        lines.append("nothing is promoted: --ar-no-promote")
    jail = ", in a sandbox" if options.agent_sandbox else ""
    at_once = f", {options.agents} at once" if options.agents > 1 else ""
    longest = duration(options.agent_timeout)
    lines.append(f"agent {one_line(agent.name)}{jail}{at_once}, at most {longest} a session")
    if agent.name != "random" and not (context.project.root / "program.md").exists():
        lines.append("no program.md tells the agent how to write an experiment: `autoresearch init` writes one")
    lines.append(f"until {limits_in_words(options)}")
    lines.append(f"{queue_words(waiting)}" + ("; judged first" if waiting else ""))
    return lines


def limits_in_words(options: LoopOptions) -> str:
    """`12 experiments, 8 h or Ctrl-C`."""
    limits = []
    if options.experiments is not None:
        limits.append(counted(options.experiments, "verdict"))
    if options.hours is not None:
        limits.append(f"{options.hours:g} h")
    if options.until is not None:
        limits.append(f"val_bpb {options.until:g}")
    if options.patience is not None:
        limits.append(f"{counted(options.patience, 'verdict')} in a row without a keep")
    if options.dollars is not None:
        limits.append(f"{dollars(options.dollars)} are spent on agents")
    return " or ".join(filter(None, (", ".join(limits), "Ctrl-C")))
