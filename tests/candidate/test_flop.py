"""The flop counter against torch's own, on the model that it counts here."""

import threading
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from pytest_autoresearch.candidate.flop import FORMULAS, FlopCounter, counting

ATEN = torch.ops.aten
CPU_ATTENTION = {
    ATEN._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *a, **kw: sdpa_flop_count(q, k, v),
    ATEN._scaled_dot_product_flash_attention_for_cpu_backward: lambda g, q, k, v, *a, **kw: sdpa_backward_flop_count(
        g, q, k, v
    ),
}


def matmuls() -> None:
    weight = torch.randn(8, 4, requires_grad=True)
    x = torch.randn(2, 5, 4)
    (F.linear(x, weight) @ weight).sum().backward()
    torch.einsum("bij,kj->bik", x, torch.randn(3, 4))
    F.conv1d(x, torch.randn(6, 5, 1))


def attention() -> None:
    q, k, v = (torch.randn(2, 3, 16, 8, requires_grad=True) for _ in range(3))
    F.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()


def inference() -> None:
    with torch.inference_mode():
        F.linear(torch.randn(2, 5, 4), torch.randn(8, 4), torch.randn(8))
        torch.matmul(torch.randn(2, 3, 4), torch.randn(2, 4, 5))


def optimizer_steps() -> None:
    weight = torch.randn(8, 4, requires_grad=True)
    optimizer = torch.optim.Muon([weight])
    for _ in range(2):
        (torch.randn(2, 8) @ weight).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("work", [matmuls, attention, inference, optimizer_steps])
def test_it_counts_what_torch_counts(work: Callable[[], None]) -> None:
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as reference:
        work()
    with FlopCounter() as counter:
        work()
    assert counter.flop == reference.get_total_flops() > 0


def test_known_numbers() -> None:
    with FlopCounter() as counter:
        torch.randn(3, 4) @ torch.randn(4, 5)
    assert counter.flop == 2 * 3 * 4 * 5
    with FlopCounter() as counter, torch.no_grad():
        q = torch.randn(2, 3, 16, 8)
        F.scaled_dot_product_attention(q, q, q, is_causal=True)
    assert counter.flop == 2 * (2 * 2 * 3 * 16 * 16 * 8)  # QKᵀ and the weights times V, causal or not
    assert ATEN.mm in FORMULAS


def test_what_torchs_table_lacks_is_counted() -> None:
    """A matrix times a vector; an LSTM's four gates for each of T · B inputs, twice that backwards."""
    with counting() as flop:
        torch.ones(4, 5) @ torch.ones(5)
        assert flop() == 2 * 4 * 5
        hidden, _ = torch.nn.LSTM(8, 16)(torch.ones(5, 3, 8))
        forward = flop() - 2 * 4 * 5
        assert forward == 2 * 5 * 3 * 4 * 16 * (8 + 16)
        hidden.sum().backward()
        assert flop() == 2 * 4 * 5 + 3 * forward


def test_flop_of_threads_are_counted() -> None:
    a = torch.ones(8, 8)
    with counting() as flop:
        a @ a
        alone = flop()
        for start in (lambda: threading.Thread(target=lambda: a @ a), lambda: threading.Timer(0, lambda: a @ a)):
            thread = start()
            thread.start()
            thread.join()
        assert flop() == 3 * alone
        done = threading.Event()
        import _thread

        _thread.start_new_thread(lambda: (a @ a, done.set()), ())
        done.wait()
        assert flop() == 4 * alone
    assert alone == 2 * 8**3
