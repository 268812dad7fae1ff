"""Counting the flop of a program while it runs, with little overhead."""

import _thread
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._ops import HigherOrderOperator, OperatorBase
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import arg_tree_leaves

from pytest_autoresearch.candidate.flop_formulas import Formula
from pytest_autoresearch.candidate.flop_rules import OPAQUE, Rule, refusal, rule_for

_BELOW_PYTHON = torch._C._dispatch_keyset_full_after(torch._C.DispatchKey.Python)
_CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)  # where no tensor says otherwise: other devices come first


class FlopCounter(TorchDispatchMode):
    """Sums the flop of all contractions in its `with` block, backward passes included. Refuses what it cannot count.

    For real, dense tensors the count equals that of torch's `FlopCounterMode` where that has a formula. That class is
    too slow for the steps of a small model: it also keeps a table by module, and tries to decompose each operation
    each time.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flop = 0
        self._rules: dict[Any, Formula | Rule] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if types and any(map(_dispatches, types)):  # the subclass calls operations on the tensors in it: count those
            return NotImplemented
        kwargs = kwargs or {}
        rule = self._rules.get(func)
        if rule is None:
            rule = self._rules[func] = rule_for(func)
        if rule is Rule.PLAIN:
            return func(*args, **kwargs)
        if rule is Rule.REFUSED:
            raise refusal(func)
        if isinstance(func, HigherOrderOperator):
            return self._higher_order(func, rule, args, kwargs)
        if isinstance(rule, Rule) or (args and getattr(args[0], "is_nested", False)):
            return self._look_inside(func, args, kwargs)
        out = func(*args, **kwargs)
        self.flop += int(rule(*args, **kwargs, out_val=out))
        return out

    def _look_inside(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run an operation such that those which it calls are counted."""
        keys = _CPU
        for tensor in arg_tree_leaves(*args, **kwargs):
            if isinstance(tensor, torch.Tensor):
                keys = keys | torch._C._dispatch_keys(tensor)
        keys = (keys & _BELOW_PYTHON) - torch._C._dispatch_tls_local_exclude_set()
        with self:
            return func.redispatch(keys, *args, **kwargs)

    def _higher_order(self, func: Any, rule: Formula | Rule, args: Any, kwargs: Any) -> Any:
        """Run an operation on functions, such as `torch.cond`. What the functions do is counted."""
        own = [value for value in (*args, *kwargs.values()) if _is_function(value)]
        if isinstance(rule, Rule) and not own:
            raise refusal(func)
        out = func(*map(self._counted, args), **{name: self._counted(value) for name, value in kwargs.items()})
        if not isinstance(rule, Rule):
            self.flop += int(rule(*args, **kwargs, out_val=out))
        return out

    def _counted(self, value: Any) -> Any:
        if not _is_function(value):
            return value

        def counted(*args: Any, **kwargs: Any) -> Any:
            with self:
                return value(*args, **kwargs)

        return counted

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # If True, torch wraps `__torch_dispatch__`, and importing torch._dynamo costs the first step a second.
        return False


def _dispatches(kind: type) -> bool:
    """Whether this subclass of Tensor has a `__torch_dispatch__` of its own."""
    return kind.__torch_dispatch__ is not torch._C._disabled_torch_dispatch_impl  # type: ignore[attr-defined]


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, (torch.Tensor, OperatorBase))


@contextmanager
def counting() -> Iterator[Callable[[], int]]:
    """Count the flop of a block and of all threads started in it. Yields a function that returns the total so far.

    A dispatch mode of torch works in one thread only, so each new thread enters a counter of its own before it runs.
    """
    counters = [FlopCounter()]

    def enter() -> None:
        counters.append(FlopCounter())
        counters[-1].__enter__()  # type: ignore[no-untyped-call]

    def counted(start: Callable[..., Any]) -> Callable[..., Any]:
        def start_counted(function: Callable[..., Any], *rest: Any, **settings: Any) -> Any:
            def run(*args: Any, **kwargs: Any) -> None:
                enter()
                function(*args, **kwargs)

            return start(run, *rest, **settings)

        return start_counted

    originals = {place: getattr(*place) for place in STARTERS if hasattr(*place)}
    for place, start in originals.items():
        setattr(*place, counted(start))
    try:
        with refusing_the_unseen(), counters[0]:
            yield lambda: sum(counter.flop for counter in counters)
    finally:
        for place, start in originals.items():
            setattr(*place, start)


STARTERS = (
    *((_thread, "start_new_thread"), (_thread, "start_new"), (_thread, "start_joinable_thread")),
    *((threading, "_start_new_thread"), (threading, "_start_joinable_thread")),  # its own references to them
)
"""The functions that start a thread. Which there are depends on the version of Python."""
UNSEEN = {
    (torch.cuda.CUDAGraph, "replay"): "torch.cuda.CUDAGraph.replay",
    (torch.library.Library, "fallback"): "torch.library.Library.fallback",
    (torch._C, "_jit_set_llga_enabled"): "torch.jit.enable_onednn_fusion",
    (torch._C, "_jit_pass_optimize_for_inference"): "torch.jit.optimize_for_inference",
}
"""Functions of torch after which kernels run unseen by a dispatch mode, and the names by which programs know them."""


@contextmanager
def refusing_the_unseen() -> Iterator[None]:
    """Refuse, for a block, whatever computes unseen by a dispatch mode: OPAQUE and UNSEEN."""
    kernels = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    for packet in (getattr(torch.ops.aten, name) for name in OPAQUE if hasattr(torch.ops.aten, name)):
        for overload in packet.overloads():
            kernels.impl(getattr(packet, overload), _refusing(packet), "CPU")  # type: ignore[no-untyped-call]
    originals = {place: getattr(*place) for place in UNSEEN}
    for place, name in UNSEEN.items():
        setattr(*place, _refusing(name))
    try:
        yield
    finally:
        kernels._destroy()  # type: ignore[no-untyped-call]
        for place, original in originals.items():
            setattr(*place, original)


def _refusing(func: Any) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise refusal(func)

    return refuse
