"""The flop counter against torch's own, and what it does where a dispatch mode alone would see nothing."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from pytest_autoresearch.candidate.flop import FlopCounter, counting

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

ATEN = torch.ops.aten
CPU_ATTENTION = {
    ATEN._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *a, **kw: sdpa_flop_count(q, k, v),
    ATEN._scaled_dot_product_flash_attention_for_cpu_backward: lambda g, q, k, v, *a, **kw: sdpa_backward_flop_count(
        g, q, k, v
    ),
}
SQUARE = torch.randn(8, 8)
PRODUCT = 2 * 8**3  # flop of SQUARE @ SQUARE


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
        threading.setprofile(None)  # as profilers do
        thread = threading.Thread(target=lambda: a @ a)
        thread.start()
        thread.join()
        assert flop() == 5 * alone
    assert alone == 2 * 8**3


# -- what hides its work inside --


class Wrapper(Tensor):
    """A subclass of Tensor whose addition is a product."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Wrapper":
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0].inner @ args[1].inner


@torch.library.custom_op("tests_flop::squared", mutates_args=())
def squared(matrix: Tensor) -> Tensor:
    return matrix @ matrix


@torch.library.custom_op("tests_flop::ones_squared", mutates_args=())
def ones_squared(size: int) -> Tensor:
    return torch.ones(size, size) @ torch.ones(size, size)


def overridden_kernel() -> None:
    library = torch.library.Library("aten", "IMPL")
    library.impl("erfinv", lambda matrix: matrix @ matrix, "CPU")
    try:
        torch.erfinv(SQUARE)
    finally:
        library._destroy()


def condition() -> None:
    torch.ops.higher_order.cond(torch.tensor(True), lambda a: a @ a, lambda a: a, (SQUARE,))


def loop() -> None:
    torch.ops.higher_order.while_loop(lambda i, a: i < 1, lambda i, a: (i + 1, a @ a), (torch.tensor(0), SQUARE), ())


def scripted() -> None:
    layer = torch.jit.freeze(torch.jit.script(nn.Linear(8, 8, bias=False).eval()))
    with torch.no_grad():
        layer(SQUARE)


def jagged() -> None:
    nested = torch.nested.nested_tensor([torch.ones(3, 8), torch.ones(5, 8)], layout=torch.jagged)
    F.linear(nested, SQUARE)


def nested() -> None:
    F.linear(torch.nested.nested_tensor([torch.ones(3, 8), torch.ones(5, 8)]), SQUARE)


@pytest.mark.parametrize(
    "work",
    [
        lambda: Wrapper(SQUARE) + Wrapper(SQUARE),
        lambda: squared(SQUARE),
        lambda: ones_squared(8),
        overridden_kernel,
        condition,
        loop,
        scripted,
        jagged,
        nested,
        lambda: torch.ops.prims.sum(SQUARE @ SQUARE, [0, 1]),
    ],
)
def test_it_sees_what_an_operation_does_inside(work: Callable[[], Any]) -> None:
    with counting() as flop:
        work()
    assert flop() == PRODUCT


def encoder_layer() -> Callable[[], Tensor]:
    layer, x = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.randn(2, 5, 8)
    return lambda: layer.train(torch.is_grad_enabled())(x)


def encoder() -> Callable[[], Tensor]:
    """Two layers and a mask without padding, which the fast path turns into nested tensors."""
    layer = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    x, mask = torch.randn(2, 5, 8), torch.zeros(2, 5, dtype=torch.bool)
    return lambda: layer.train(torch.is_grad_enabled())(x, src_key_padding_mask=mask)


def multi_head() -> Callable[[], Tensor]:
    layer, x = nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(2, 5, 8)
    return lambda: layer.train(torch.is_grad_enabled())(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize("make", [encoder_layer, encoder, multi_head])
def test_the_fast_path_counts_as_the_slow_one(make: Callable[[], Callable[[], Tensor]]) -> None:
    forward = make()
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as slow:
        forward()
    with counting() as flop, torch.no_grad():
        forward()
    assert flop() == slow.get_total_flops() > 0


# -- what is refused --


def fbgemm() -> None:
    packed = torch.fbgemm_pack_gemm_matrix_fp16(SQUARE)
    torch.fbgemm_linear_fp16_weight_fp32_activation(SQUARE, packed, torch.zeros(8))


def optimized_script() -> None:
    """Its convolution would call oneDNN directly."""
    torch.jit.optimize_for_inference(torch.jit.script(nn.Conv2d(3, 4, 3).eval()))


def fbgemm_in_inference() -> None:
    with torch.inference_mode():
        fbgemm()


@pytest.mark.parametrize(
    ("work", "name"),
    [
        (fbgemm, "torch.ops.aten.fbgemm_linear_fp16_weight_fp32_activation"),
        (fbgemm_in_inference, "torch.ops.aten.fbgemm_linear_fp16_weight_fp32_activation"),
        (lambda: torch.ops.quantized.matmul(SQUARE, SQUARE, 1.0, 0), "torch.ops.quantized.matmul"),
        (lambda: torch.jit.enable_onednn_fusion(True), "torch.jit.enable_onednn_fusion"),
        (optimized_script, "torch.jit.optimize_for_inference"),
        (lambda: torch.cuda.CUDAGraph.replay(None), "torch.cuda.CUDAGraph.replay"),
        (lambda: torch.library.Library("_", "IMPL").fallback(None, "CPU"), "torch.library.Library.fallback"),
    ],
)
def test_what_cannot_be_counted_is_refused(work: Callable[[], Any], name: str) -> None:
    with counting() as flop, pytest.raises(RuntimeError, match=f"^{name}.* cannot be used under a budget in flop"):
        work()
    assert flop() == 0


def test_what_was_switched_off_is_back_afterwards() -> None:
    with counting():
        pass
    fbgemm()
    optimized_script()
    torch.jit.enable_onednn_fusion(False)


def test_an_operation_of_unknown_origin_is_refused() -> None:
    """Not one of torch's, and not written in Python: an extension in C++ could do anything."""
    library = torch.library.Library("tests_flop_extension", "DEF")
    library.define("work(Tensor x) -> Tensor")
    with counting(), pytest.raises(RuntimeError, match=r"^torch.ops.tests_flop_extension.work"):
        torch.ops.tests_flop_extension.work(SQUARE)
    library._destroy()
