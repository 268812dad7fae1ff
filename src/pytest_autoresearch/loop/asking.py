"""The agents of a loop: who is asked for what, when one is asked again after trouble, and what they have cost."""

from collections.abc import Callable, Iterator

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.records import Outcome, Verdict
from pytest_autoresearch.core.text import duration
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.loop.backoff import Backoff
from pytest_autoresearch.loop.experiment_file import file_as_judged
from pytest_autoresearch.loop.limits import Spending
from pytest_autoresearch.loop.options import LoopOptions
from pytest_autoresearch.loop.presets import Preset
from pytest_autoresearch.loop.prompt import make_prompt, scratch_files
from pytest_autoresearch.loop.round import Request, Round, brought_by_rounds
from pytest_autoresearch.loop.status import AgentStatus, Finished, Status

CRASHES = (Outcome.CRASHED, Outcome.OUT_OF_MEMORY)
SENT_BACK = 2
"""How often an experiment that crashed goes back to an agent."""


class Agents:
    """The rounds that go on now, and what earlier ones have taught. `clock` gives monotonic seconds."""

    def __init__(self, agent: Preset, options: LoopOptions, clock: Callable[[], float]) -> None:
        self._agent = agent
        self._options = options
        self._clock = clock
        self._rounds: dict[int, tuple[Round, float, str]] = {}  # by place: the round, when it began, what it mends
        self._has_begun = False
        self.backoff = Backoff()
        self.spending = Spending()

    def __len__(self) -> int:
        return len(self._rounds)

    @property
    def statuses(self) -> list[AgentStatus]:
        """How far each agent is."""
        return [round_.status for round_, _, _ in self._rounds.values()]

    @property
    def ended(self) -> str:
        """Why no agent is asked any more in this loop; "" while agents are."""
        return self.backoff.gave_up or self.spending.reason(self._options.dollars)

    @property
    def pause(self) -> str:
        """Why no agent is asked now, or ""."""
        return self.ended or self.backoff.words(self._clock())

    def room(self, wanted: int) -> int:
        """How many of the `wanted` agents may be asked now: after fruitless rounds one at a time, and not at once."""
        if self.ended or self.backoff.wait(self._clock()):
            return 0
        return min(wanted, 1 - len(self)) if self.backoff.fruitless else wanted

    def ask(self, context: Callable[[], Context], status: Callable[[], Status]) -> str:
        """Ask one more agent, unless those at work may spend the rest. Returns the line of what prevented it, or "".

        `context` and `status` give those of the moment, for the prompt of each session. UsageError if the first agent
        of all cannot be started: later on that is trouble, which may pass.
        """
        if not self.spending.allows_another(self._options.dollars, len(self)):
            return ""
        now, here, of = self._clock(), context(), self._options.agents
        place = next(number for number in range(1, of + 1) if number not in self._rounds)
        try:
            mending = {fix for _, _, fix in self._rounds.values()}
            crash = next((each for each in to_mend(here) if each.experiment not in mending), None)
            files = scratch_files(here)
        except (UsageError, OSError) as error:
            return self._trouble(here.shorten(error), now)
        request = Request(
            prompt=lambda refused: make_prompt(context(), status(), refused, place, of, crash),
            files=files,
            fix=crash.experiment if crash else "",
            timeout=self._options.agent_timeout,
            sandbox=self._options.agent_sandbox,
        )
        try:
            self._rounds[place] = Round(here, self._agent, request), now, request.fix
        except (UsageError, OSError) as error:
            if isinstance(error, UsageError) and not self._has_begun:
                raise
            return self._trouble(here.shorten(error), now)
        self._has_begun = True
        return ""

    def step(self) -> list[Finished]:
        """Move the rounds on. Returns those that have ended."""
        over = []
        for place, (round_, began, fix) in list(self._rounds.items()):
            try:
                finished = round_.step()
            except (UsageError, OSError) as error:  # a full disk
                finished = _given_up(round_, fix, str(error))
            if finished:
                del self._rounds[place]
                self.spending = self.spending.plus(finished.dollars)
                self.backoff = self.backoff.plus(bool(finished.files), began, self._clock(), _words_of(finished))
                over.append(finished)
        return over

    def stop(self) -> list[Finished]:
        """End the rounds now. What they have brought counts, and what they lack is nobody's fault."""
        over = []
        for round_, _, fix in self._rounds.values():
            try:
                finished = round_.stop()
            except (UsageError, OSError) as error:
                finished = Finished(round_.status.number, round_.status.seconds, trouble=str(error), fixes=fix)
            self.spending = self.spending.plus(finished.dollars)
            over.append(finished)
        self._rounds = {}
        return over

    def _trouble(self, line: str, now: float) -> str:
        """Note that no round could begin."""
        self.backoff = self.backoff.plus(False, now, now, line)
        return f"no agent can be asked: {line}; tries again in {duration(self.backoff.wait(now))}"


def _given_up(round_: Round, fix: str, trouble: str) -> Finished:
    """A round that cannot go on is ended, as far as it can be."""
    try:
        return round_.stop()
    except (UsageError, OSError):
        return Finished(round_.status.number, round_.status.seconds, trouble=trouble, fixes=fix)


def _words_of(finished: Finished) -> str:
    """What a fruitless round left to say."""
    refused = [f"{name}: {reason}" for name, reason in finished.refused]
    return finished.trouble or "; ".join(refused[:1])


def to_mend(context: Context) -> Iterator[Verdict]:
    """The crashes that go back to an agent: of experiments that rounds brought, as their files are now.

    The answer is found in files alone, so a loop that is killed forgets none.
    """
    track = context.track.name
    sent = {name for name, times in brought_by_rounds(context).items() if times < SENT_BACK}
    rows = context.ledger.rows() if sent else []
    outcomes = {row["experiment"]: row["verdict"] for row in rows if row["track"] == track}
    for name in (name for name, outcome in outcomes.items() if name in sent and outcome in CRASHES):
        verdicts = context.evidence.verdicts(track, name)
        if verdicts and verdicts[-1].outcome in CRASHES and file_as_judged(context, verdicts[-1]):
            yield verdicts[-1]
