"""The signals that end a loop: the first Ctrl-C lets it finish what trains; the second, SIGTERM and SIGHUP do not."""

import signal
from types import FrameType, TracebackType
from typing import Any

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class Signals:
    """Notes the signals that arrive in a `with` block. A signal that was ignored before, as under nohup, stays so."""

    def __init__(self) -> None:
        self.interrupts = 0
        self._ended_by: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def exit_code(self) -> int:
        """The exit code if all is to end at once, else 0."""
        if self._ended_by:
            return 128 + self._ended_by
        return 128 + signal.SIGINT if self.interrupts > 1 else 0

    @property
    def words(self) -> str:
        """What arrived: `Ctrl-C`, `Ctrl-C twice`, `SIGTERM`; "" if nothing did."""
        if self._ended_by:
            return self._ended_by.name
        return "" if not self.interrupts else "Ctrl-C" if self.interrupts == 1 else "Ctrl-C twice"

    def hang_up(self) -> None:
        """As if SIGHUP had come: nobody reads what the loop has to say any more."""
        self._ended_by = self._ended_by or getattr(signal, "SIGHUP", signal.SIGTERM)

    def __enter__(self) -> "Signals":
        for name in SIGNALS:
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGINT:
            self._ended_by = signal.Signals(number)
            return
        self.interrupts += 1
        if self.interrupts > 2:  # something keeps the loop from ending
            raise KeyboardInterrupt
