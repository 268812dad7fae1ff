"""Counting the flop of a program while it runs, with torch's own formulas and little overhead."""

import _thread
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


def _matrix_vector(*tensors: Any, out_val: Any = None, **kwargs: Any) -> int:
    return 2 * next(int(tensor.numel()) for tensor in tensors if tensor.ndim == 2)


def _cpu_lstm(inputs: Any, weights: Any, recurrent: Any, *args: Any, out_val: Any = None, **kwargs: Any) -> int:
    return int(2 * inputs.shape[0] * inputs.shape[1] * (weights.numel() + recurrent.numel()))


_ATEN = torch.ops.aten
FORMULAS: dict[Any, Callable[..., int]] = {
    **flop_registry,  # which lacks the CPU's attention
    _ATEN._scaled_dot_product_flash_attention_for_cpu: flop_registry[_ATEN._scaled_dot_product_flash_attention],
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        _ATEN._scaled_dot_product_flash_attention_backward
    ],
    _ATEN.mkldnn_rnn_layer: _cpu_lstm,
    _ATEN.mkldnn_rnn_layer_backward: lambda *args, **kwargs: 2 * _cpu_lstm(*args, **kwargs),
    _ATEN.mv: _matrix_vector,
    _ATEN.addmv: _matrix_vector,
}


class FlopCounter(TorchDispatchMode):
    """Sums the flop of every matmul, convolution and attention in its `with` block, backward passes included.

    The count equals that of torch's `FlopCounterMode`. That class is too slow for the steps of a small model: it also
    keeps a table by module, and tries to decompose every operation every time.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flop = 0
        self._kinds: dict[Any, Callable[..., int] | bool] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        kind = self._kinds.get(func)
        if kind is None:
            kind = self._kinds[func] = self._kind(func)
        if kind is False:
            return func(*args, **kwargs)
        if kind is True:
            with self:
                return func.decompose(*args, **kwargs)
        out = func(*args, **kwargs)
        self.flop += kind(*args, **kwargs, out_val=out)
        return out

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return (
            False  # otherwise torch wraps the method above, and importing torch._dynamo costs the first step a second
        )

    @staticmethod
    def _kind(func: Any) -> Callable[..., int] | bool:
        """The formula of an operation, if it has one; else whether it can be decomposed, as `linear` can."""
        formula = FORMULAS.get(getattr(func, "_overloadpacket", func))
        return formula or (isinstance(func, torch._ops.OpOverload) and func._can_decompose())


@contextmanager
def counting() -> Iterator[Callable[[], int]]:
    """Count the flop of a block and of all threads started in it. Yields a function that returns the total so far.

    A dispatch mode of torch works in one thread only, so each new thread enters a counter of its own before it runs.
    """
    counters = [FlopCounter()]

    def enter() -> None:
        counters.append(FlopCounter())
        counters[-1].__enter__()  # type: ignore[no-untyped-call]

    def first_event(frame: Any, event: str, arg: Any) -> None:
        sys.setprofile(None)
        enter()

    def counted(start: Callable[..., Any]) -> Callable[..., Any]:
        def start_counted(function: Callable[..., Any], args: Any = (), *rest: Any, **kwargs: Any) -> Any:
            def run(*args: Any, **kwargs: Any) -> None:
                enter()
                function(*args, **kwargs)

            return start(run, args, *rest, **kwargs)

        return start_counted

    threading.setprofile(first_event)
    _thread.start_new_thread = counted(_thread.start_new_thread)  # `threading` holds its own reference to the original
    with counters[0]:
        yield lambda: sum(counter.flop for counter in counters)
