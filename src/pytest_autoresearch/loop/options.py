"""The options of `autoresearch loop`."""

from dataclasses import dataclass


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
