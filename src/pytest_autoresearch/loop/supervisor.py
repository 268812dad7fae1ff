"""The loop itself: keeps the queue filled by agents and has it judged, until a limit is reached."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic, sleep

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.files import now
from pytest_autoresearch.core.records import Verdict
from pytest_autoresearch.core.text import one_line
from pytest_autoresearch.judging.context import Context
from pytest_autoresearch.judging.stopping import Tally
from pytest_autoresearch.loop.asking import Agents
from pytest_autoresearch.loop.commits import commit_promotion, commit_uncommitted
from pytest_autoresearch.loop.display import Display
from pytest_autoresearch.loop.limits import LoopOptions, agents_to_ask, room_for_judging, stop_reason
from pytest_autoresearch.loop.night import Night
from pytest_autoresearch.loop.opening import check, opening_lines
from pytest_autoresearch.loop.presets import Preset
from pytest_autoresearch.loop.queue import Waiting
from pytest_autoresearch.loop.round import complete_rounds
from pytest_autoresearch.loop.signals import Signals
from pytest_autoresearch.loop.status import Finished, RunStatus, Status
from pytest_autoresearch.loop.watch import Watch
from pytest_autoresearch.loop.words import promotion_event, round_line, verdict_event
from pytest_autoresearch.loop.workers import Ended, Workers

PAUSE = 0.2
"""Seconds between two steps."""
BUSY = ("training", "scoring")
"""The stages of a run in which the device is busy."""


class Supervisor:
    """Runs one loop. All of its state is in files: a loop that was killed goes on where it was.

    What is kept in memory is about this loop alone: its limits, its pauses, and what it has tried in vain.
    """

    def __init__(
        self,
        context: Context,
        agent: Preset,
        options: LoopOptions,
        display: Display,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`clock` gives monotonic seconds."""
        self.summary: list[str] = []
        """The lines to print when the loop has ended."""
        self._context, self._agent, self._options = context, agent, options
        self._display, self._clock = display, clock
        self._signals = Signals()
        self._workers = Workers(options.pytest_options)
        self._agents = Agents(agent, options, clock)
        self._watch: Watch  # these two from `begin` on
        self._night: Night
        self._began = self._measured = clock()
        self._busy = 0.0  # seconds, as if there were one worker
        self._first: float | None = None
        self._runs: list[RunStatus] = []
        self._waiting: list[Waiting] = []
        self._verdicts: list[Verdict] = []
        self._trained = 0
        self._tally = Tally()
        self._stopping = ""
        self._failed = False
        self._told: set[str] = set()

    def run(self) -> int:
        """Go on until a limit is reached or Ctrl-C. Returns 0, or 1 if the loop gave up, or 130 after Ctrl-C twice.

        128 + its number after another signal. UsageError if the loop cannot begin, or an agent cannot be started.
        """
        with self._signals:
            if not self.begin():
                return 0
            try:
                while self.step():
                    sleep(PAUSE)
            except UsageError as error:
                self._stopping = one_line(str(error))
                raise
            finally:
                self.close()
        return self._signals.exit_code or int(self._failed)

    def begin(self) -> bool:
        """Check what can be checked, end what killed loops have left, and say how it begins. False if nothing is to do.

        UsageError if the loop cannot begin.
        """
        context, options = self._context, self._options
        check(context, self._agent, options)
        self._watch, self._night = Watch(context), Night(context, self._agent.name, now())
        self._watch.look()
        self._first = self._watch.record
        if reason := stop_reason(options, 0.0, 0, self._tally, self._first):
            self.summary = [f"{reason}: nothing to do"]
            self._display.close()
            return False
        left: list[Finished] = []
        try:
            left = complete_rounds(context)
        except (UsageError, OSError) as error:
            self._trouble(f"the rounds of a loop that was killed: {context.shorten(error)}")
        self._look_at_queue()
        names = [each.name for each in self._waiting]
        for line in opening_lines(context, self._agent, options, self._first, names):
            self._say(line)
        for finished in left:
            self._say(f"{round_line(finished)}{' (its loop was killed)' * (not finished.trouble)}")
        if options.commit:
            self._commit(lambda: commit_uncommitted(context))
        return True

    # -- one step --

    def step(self) -> bool:
        """Do what is to do now. Returns whether the loop goes on. UsageError if an agent cannot be started."""
        self._measure()
        for ended in self._workers.ended():
            self._experiment_ended(ended)
        self._end_rounds(self._agents.step())
        if trouble := self._watch.look():
            self._trouble(trouble)
        self._look_at_queue()
        self._decide()
        if self._signals.exit_code:
            return False
        if not self._stopping:
            self._judge()
            self._ask()
        elif self._signals.interrupts or not len(self._workers):
            self._end_rounds(self._agents.stop())
        self._show()
        return not self._stopping or bool(len(self._workers))

    def _measure(self) -> None:
        """Look at what the workers do, and count the time since the last look for those that keep the device busy."""
        moment = self._clock()
        self._runs = self._workers.statuses
        share = sum(run.stage in BUSY for run in self._runs) / self._options.workers
        self._busy += share * (moment - self._measured)
        self._measured = moment

    def _look_at_queue(self) -> None:
        waiting, trouble = self._watch.waiting()
        self._waiting = self._workers.to_try(waiting)
        if trouble:
            self._trouble(trouble)

    def _decide(self) -> None:
        """Find out whether anything new begins."""
        if self._first is None:
            self._first = self._watch.record
        if self._signals.words and self._signals.words != self._stopping:
            self._stopping, self._failed = self._signals.words, False
            if not self._signals.exit_code:
                self._say("Ctrl-C: what trains is judged to its end; Ctrl-C once more ends all at once")
        if self._stopping:
            return
        idle = not (len(self._workers) or len(self._agents) or self._waiting)
        problem = self._workers.common_problem or (self._agents.backoff.gave_up if idle else "")
        if problem:
            self._failed = True
            self._trouble(problem)
        reason = stop_reason(self._options, self._hours, self._trained, self._tally, self._watch.record)
        self._stopping = problem or reason or (self._agents.ended if idle else "")

    def _judge(self) -> None:
        """Start pytest on waiting experiments until all workers are busy."""
        at_work, has_record = len(self._workers), self._watch.record is not None
        room = room_for_judging(self._options, self._trained, at_work, has_record)
        failed = self._workers.start(self._watch.context, self._watch.queue, self._waiting, room)
        for ended in failed:
            self._experiment_ended(ended)
        if failed or len(self._workers) > at_work:
            self._look_at_queue()

    def _ask(self) -> None:
        """Start rounds until enough agents are at work."""
        judging, waiting = len(self._workers), len(self._waiting)
        wanted = agents_to_ask(self._options, self._trained, judging, waiting, len(self._agents))
        for _ in range(self._agents.room(wanted)):
            if trouble := self._agents.ask(lambda: self._watch.context, lambda: self.status):
                self._trouble(trouble, again=True)
                break

    # -- events --

    def _experiment_ended(self, ended: Ended) -> None:
        """Say what became of an experiment, and commit its promotion."""
        verdict = ended.verdict
        if verdict is None:
            more = "; left alone until its file is changed" if ended.left_alone else ""
            self._trouble(f"{one_line(ended.name)}: no verdict: {ended.problem}{more}", again=True)
            return
        self._verdicts.append(verdict)
        self._tally = self._tally.plus(verdict)
        self._trained += bool(verdict.runs) and not verdict.replayed
        self._watch.look_for_record()
        self._night.add_verdict(verdict)
        self._say(verdict_event(verdict))
        if verdict.status == "keep" and verdict.val_bpb is not None and verdict.baseline_scores:
            self._say(promotion_event(verdict))
            if self._options.commit:
                self._commit(lambda: commit_promotion(self._watch.context, verdict))
        self._write()

    def _end_rounds(self, over: Iterable[Finished]) -> None:
        """Say what rounds have brought."""
        for finished in over:
            self._night.add_round(finished)
            wait = 0.0 if self._stopping else self._agents.backoff.wait(self._clock())
            self._say(round_line(finished, wait))
            self._write()

    def _commit(self, commit: Callable[[], str]) -> None:
        try:
            if subject := commit():
                self._say(f"committed: {subject}")
        except (UsageError, OSError) as error:
            why = one_line(self._context.shorten(error))
            self._trouble(f"no commit: {why}; the next commit takes the promotion with it", again=True)

    def _trouble(self, line: str, again: bool = False) -> None:
        """Say what a person should look at: once, or `again` each time."""
        if again or line not in self._told:
            self._told.add(line)
            self._say(line)
            self._night.add_trouble(line)
            self._write()

    def _say(self, line: str) -> None:
        try:
            self._display.event(line)
        except OSError:  # the terminal is gone, or the reader of the pipe
            self._signals.hang_up()

    def _show(self) -> None:
        try:
            self._display.show(self.status)
        except OSError:
            self._signals.hang_up()

    def _write(self) -> None:
        """Write the account of the loop as it is now."""
        try:
            self._night.write(self.status)
        except OSError as error:
            line = f"the account of this loop cannot be written: {self._context.shorten(error)}"
            if line not in self._told:
                self._told.add(line)
                self._say(line)

    # -- the state, and the end --

    @property
    def _hours(self) -> float:
        return (self._clock() - self._began) / 3600

    @property
    def status(self) -> Status:
        """What goes on now."""
        elapsed = self._measured - self._began
        return Status(
            runs=self._runs,
            waiting=[each.name for each in self._waiting],
            agents=self._agents.statuses,
            verdicts=list(self._verdicts),
            first=self._first,
            best=self._watch.record,
            hours=self._hours,
            busy=self._busy / elapsed if elapsed else 0.0,
            dollars=self._agents.spending.dollars,
            pause=self._agents.pause,
            stopping=self._stopping,
        )

    def close(self) -> None:
        """End what is still at work, write the account, and make the summary."""
        self._stopping = self._stopping or self._signals.words or "an error"
        self._workers.kill()
        self._end_rounds(self._agents.stop())
        if self._options.commit and not self._signals.exit_code:  # what git refused before
            self._commit(lambda: commit_uncommitted(self._watch.context))
        self._runs = []
        status = self.status
        with suppress(OSError):  # a full disk; the summary has it all
            self._night.write(status, self._stopping)
        self.summary = self._night.summary(status, self._stopping)
        with suppress(OSError):
            self._display.close()
