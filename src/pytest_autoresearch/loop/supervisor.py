"""The loop itself: keeps the queue filled by agents and has it judged, until a limit is reached."""

from dataclasses import dataclass

from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.loop.display import Display
from pytest_autoresearch.loop.presets import Preset


@dataclass(frozen=True)
class LoopOptions:
    """The options of `autoresearch loop`.

    `experiments`, `hours`, `until` (val_bpb), `patience` and `dollars` are limits, None where not given. `ahead`: how
    many experiments wait while one trains. `agents`, `workers`: how many work at once. `agent_timeout` is in seconds.
    `pytest_options` are passed on.
    """

    experiments: int | None = None
    hours: float | None = None
    until: float | None = None
    patience: int | None = None
    dollars: float | None = None
    ahead: int = 2
    agents: int = 1
    workers: int = 1
    commit: bool = False
    agent_timeout: float = 1800.0
    agent_sandbox: bool = False
    pytest_options: tuple[str, ...] = ()


class Supervisor:
    """Runs one loop. All of its state is in files: a loop that was killed goes on where it was."""

    def __init__(self, context: Context, agent: Preset, options: LoopOptions, display: Display) -> None:
        raise NotImplementedError

    def run(self) -> int:
        """Go on until a limit is reached or Ctrl-C. Returns 0, or 1 if the loop gave up, or 130 after Ctrl-C twice."""
        raise NotImplementedError
