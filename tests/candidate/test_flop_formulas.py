"""Each formula against an equivalent that is counted otherwise, or against the number that its source gives."""

from collections.abc import Callable
from math import log2
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.mkldnn import to_mkldnn

from pytest_autoresearch.candidate.flop import counting

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of what is deprecated, or a prototype

N = 12
SQUARE = torch.randn(N, N, generator=torch.Generator().manual_seed(0))
POSITIVE = SQUARE @ SQUARE.T + N * torch.eye(N)
TALL = torch.randn(20, N)
sizes = st.integers(2, 9)  # einsum multiplies vectors of one element without a product


def flop_of(work: Callable[[], Any]) -> int:
    with counting() as flop:
        work()
    return flop()


# -- products --


@settings(max_examples=10, deadline=None)
@given(b=sizes, m=sizes, k=sizes, n=sizes)
def test_products_cost_what_their_equivalents_cost(b: int, m: int, k: int, n: int) -> None:
    x, y, total = torch.randn(b, m, k), torch.randn(b, k, n), torch.zeros(m, n)
    mm, bmm = 2 * m * k * n, 2 * b * m * k * n
    assert flop_of(lambda: x[0] @ y[0]) == mm
    assert flop_of(lambda: torch.bmm(x, y)) == flop_of(lambda: torch.addbmm(total, x, y)) == bmm
    assert flop_of(lambda: total.addbmm_(x, y)) == flop_of(lambda: torch.zeros(b, m, n).baddbmm_(x, y)) == bmm
    assert flop_of(lambda: total.addmm_(x[0], y[0])) == flop_of(lambda: torch.mm(x[0], y[0], out=total)) == mm
    assert flop_of(lambda: torch.tensordot(x, y, ([0, 2], [0, 1]))) == bmm
    assert flop_of(lambda: torch.inner(x[0], y[0].T)) == mm
    assert flop_of(lambda: x[0] @ y[0, :, 0]) == flop_of(lambda: torch.zeros(m).addmv_(x[0], y[0, :, 0])) == 2 * m * k
    assert flop_of(lambda: torch.dot(x[0, 0], y[0, :, 0])) == flop_of(lambda: torch.vdot(x[0, 0], y[0, :, 0])) == 2 * k
    assert flop_of(lambda: total.addr_(x[0, :, 0], y[0, 0])) == 2 * m * n
    assert flop_of(lambda: torch.cdist(x, y.mT, compute_mode="donot_use_mm_for_euclid_dist")) == bmm
    assert flop_of(lambda: torch.cdist(x, y.mT, p=1)) == bmm
    augmented = torch.cat([x, x[..., :1], x[..., :1]], -1), torch.cat([y, y[:, :1], y[:, :1]], 1)
    by_product = lambda: torch.cdist(x, y.mT, compute_mode="use_mm_for_euclid_dist")  # noqa: E731
    assert flop_of(by_product) == flop_of(lambda: torch.bmm(*augmented))
    layer, left, right = nn.Bilinear(m, k, n, bias=False), torch.randn(b, m), torch.randn(b, k)
    einsum = lambda: torch.einsum("bi,oij,bj->bo", left, layer.weight, right)  # noqa: E731
    assert flop_of(lambda: layer(left, right)) == flop_of(einsum)


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
def test_a_sparse_factor_costs_what_it_stores(layout: torch.layout) -> None:
    dense = torch.zeros(6, 6)
    dense[0, :3] = dense[4, 5] = 1.0
    sparse = dense.to_sparse() if layout is torch.sparse_coo else dense.to_sparse_csr()
    x, stored = torch.randn(6, 5), 4
    products: list[Callable[[], Tensor]] = [
        lambda: sparse @ x,
        lambda: x.T @ sparse,
        lambda: torch.sparse.mm(sparse, x),
        lambda: torch.sparse.addmm(torch.zeros(6, 5), sparse, x),
        lambda: torch.addmm(torch.zeros(6, 5), sparse, x),
    ]
    if layout is torch.sparse_coo:
        products += [
            lambda: torch.smm(sparse, x),
            lambda: torch.hspmm(sparse, x),
            lambda: torch.sspaddmm(torch.zeros(6, 5).to_sparse(), sparse, x),
        ]
    else:
        products += [
            lambda: torch.sparse.mm(sparse, x, "sum"),
            lambda: torch.sparse.sampled_addmm(sparse, x, x.T.contiguous()),
        ]
    assert [flop_of(work) for work in products] == [2 * stored * 5] * len(products)
    assert flop_of(lambda: sparse @ x[:, 0]) == 2 * stored
    pairs = int(((dense != 0).float() @ (dense != 0).float()).sum())  # stored times stored
    assert flop_of(lambda: torch.sparse.mm(sparse, sparse)) == 2 * pairs


def test_backward_of_sparse_products_is_counted() -> None:
    sparse, x = torch.eye(6).to_sparse().requires_grad_(), torch.randn(6, 5, requires_grad=True)
    assert flop_of(lambda: torch.sparse.mm(sparse, x).sum().backward()) >= 3 * 2 * 6 * 5


def test_weighted_bags_cost_their_products_and_sums_nothing() -> None:
    bag, indices = nn.EmbeddingBag(10, 4, mode="sum"), torch.randint(10, (3, 5))
    weights = torch.randn(3, 5, requires_grad=True)
    assert flop_of(lambda: bag(indices).sum().backward()) == 0
    assert flop_of(lambda: bag(indices, per_sample_weights=weights).sum().backward()) == 3 * 2 * (3 * 5) * 4
    with torch.no_grad():
        assert flop_of(lambda: bag(indices, per_sample_weights=weights)) == 2 * (3 * 5) * 4


def test_complex_numbers_cost_four_times_as_much() -> None:
    z = torch.randn(N, N, dtype=torch.complex64)
    for work in (lambda a: a @ a, lambda a: torch.linalg.inv(a), lambda a: torch.dot(a[0], a[1])):
        assert flop_of(lambda work=work: work(z)) == 4 * flop_of(lambda work=work: work(SQUARE))


def test_integers_and_quantized_numbers_cost_what_real_ones_cost() -> None:
    integers = torch.ones(32, 32, dtype=torch.int8)
    assert flop_of(lambda: torch._int_mm(integers, integers)) == 2 * 32**3
    assert flop_of(lambda: integers.long() @ integers.long()) == 2 * 32**3
    layer = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 6)), {nn.Linear})
    assert flop_of(lambda: layer(torch.randn(5, 8))) == 2 * 5 * 8 * 6
    scales = torch.ones(32, dtype=torch.bfloat16)
    x = torch.ones(4, 32, dtype=torch.bfloat16)
    assert flop_of(lambda: torch._weight_int8pack_mm(x, integers, scales)) == 2 * 4 * 32 * 32


def test_products_of_mkldnn_tensors() -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    linear, convolution = to_mkldnn(nn.Linear(8, 6)), to_mkldnn(nn.Conv2d(3, 4, 3))
    x, image = torch.randn(5, 8), torch.randn(1, 3, 9, 9)
    assert flop_of(lambda: linear(x.to_mkldnn())) == 2 * 5 * 8 * 6
    assert flop_of(lambda: convolution(image.to_mkldnn())) == 2 * 7 * 7 * 4 * 3 * 3 * 3


def test_convolutions_that_torchs_table_lacks() -> None:
    x, weight = torch.randn(9, 2, 4), torch.randn(3, 4, 5)  # (T, B, in), (width, in, out)
    same = lambda: F.conv1d(x.permute(1, 2, 0), weight.permute(2, 1, 0))  # noqa: E731
    assert flop_of(lambda: torch.conv_tbc(x, weight, torch.zeros(5))) == flop_of(same) > 0
    image = torch.randn(1, 3, 4, 9, 9)
    wide = torch.randn(4, 3, 2, 3, 3)
    slow = lambda: torch.ops.aten.slow_conv3d(image, wide, [2, 3, 3])  # noqa: E731
    assert flop_of(slow) == flop_of(lambda: F.conv3d(image, wide)) > 0


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers(kind: type[nn.RNNBase], gates: int) -> None:
    """Each of T · B inputs meets both matrices of all gates; backwards twice that, less what needs no gradient."""
    layer, x = kind(8, 16), torch.randn(5, 3, 8, requires_grad=True)
    with torch.no_grad():
        forward = flop_of(lambda: layer(x))
    assert forward == 2 * 5 * 3 * gates * 16 * (8 + 16)
    both = flop_of(lambda: layer(x)[0].sum().backward())
    assert 2.8 * forward <= both <= 3 * forward  # the initial state needs no gradient


# -- linear algebra: LAPACK Working Note 41, and Golub and Van Loan for eigenvalues and singular values --


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (lambda: torch.linalg.lu_factor(SQUARE), 2 / 3 * N**3),
        (lambda: torch.linalg.lu(SQUARE), 2 / 3 * N**3),
        (lambda: torch.linalg.lu_factor(TALL), 20 * N**2 - N**3 / 3),
        (lambda: torch.linalg.det(SQUARE), 2 / 3 * N**3),
        (lambda: torch.linalg.slogdet(SQUARE), 2 / 3 * N**3),
        (lambda: torch.linalg.solve(SQUARE, TALL.T), 2 / 3 * N**3 + 2 * N**2 * 20),
        (lambda: torch.linalg.solve(SQUARE, TALL[0]), 2 / 3 * N**3 + 2 * N**2),
        (lambda: torch.linalg.solve(SQUARE, TALL, left=False), 2 / 3 * N**3 + 2 * N**2 * 20),
        (lambda: torch.linalg.lu_solve(*torch.linalg.lu_factor(SQUARE), TALL.T), 2 / 3 * N**3 + 2 * N**2 * 20),
        (lambda: torch.linalg.inv(SQUARE.expand(3, N, N)), 3 * 2 * N**3),
        (lambda: torch.linalg.cholesky(POSITIVE), N**3 / 3),
        (lambda: torch.cholesky_solve(TALL.T, POSITIVE), 2 * N**2 * 20),
        (lambda: torch.cholesky_inverse(POSITIVE), 2 / 3 * N**3),
        (lambda: torch.linalg.ldl_factor(POSITIVE), N**3 / 3),
        (lambda: torch.linalg.solve_triangular(SQUARE, TALL.T, upper=True), N**2 * 20),
        (lambda: torch.triangular_solve(TALL.T, SQUARE), N**2 * 20),
        (lambda: torch.geqrf(TALL), 2 * 20 * N**2 - 2 / 3 * N**3),
        (lambda: torch.linalg.qr(TALL), 2 * (2 * 20 * N**2 - 2 / 3 * N**3)),
        (lambda: torch.linalg.qr(TALL, mode="r"), 2 * 20 * N**2 - 2 / 3 * N**3),
        (lambda: torch.linalg.householder_product(TALL, TALL[0]), 2 * 20 * N**2 - 2 / 3 * N**3),
        (lambda: torch.ormqr(TALL, TALL[0], TALL), 4 * 20 * N * N - 2 * N * N**2),
        (lambda: torch.linalg.lstsq(TALL, TALL[:, :2]), 2 * 20 * N**2 - 2 / 3 * N**3 + 2 * (4 * 20 * N - N**2)),
        (lambda: torch.linalg.eigh(POSITIVE), 9 * N**3),
        (lambda: torch.ops.aten._linalg_eigh(POSITIVE, "L", False), 4 / 3 * N**3),
        (lambda: torch.linalg.eig(SQUARE), 25 * N**3),
        (lambda: torch.linalg.svd(TALL), 6 * 20 * N**2 + 20 * N**3),
        (lambda: torch.linalg.svd(TALL.T), 6 * 20 * N**2 + 20 * N**3),
        (lambda: torch.ops.aten._linalg_svd(TALL, False, False), 4 * 20 * N**2 - 4 / 3 * N**3),
        (lambda: torch.linalg.matrix_power(SQUARE, 4), 2 * 2 * N**3),
        (lambda: torch.linalg.multi_dot([TALL.T, TALL, SQUARE]), 2 * N * 20 * N + 2 * N**3),
        (lambda: torch.linalg.pinv(TALL), 6 * 20 * N**2 + 20 * N**3 + 2 * 20 * N * N),
        (lambda: torch.linalg.vector_norm(SQUARE), 0),
    ],
)
def test_linear_algebra(work: Callable[[], Any], expected: float) -> None:
    with torch.inference_mode():
        assert flop_of(work) == pytest.approx(expected, abs=2)


def test_a_matrix_exponential_is_some_products() -> None:
    assert flop_of(lambda: torch.matrix_exp(SQUARE / 100)) >= 2 * N**3
    assert flop_of(lambda: torch.matrix_exp(SQUARE * 100)) >= 8 * 2 * N**3  # scaled down, then squared again and again


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (lambda: torch.fft.fft(torch.randn(3, 64, dtype=torch.complex64)), 3 * 5 * 64 * log2(64)),
        (lambda: torch.fft.rfft(torch.randn(3, 64)), 3 * 2.5 * 64 * log2(64)),
        (lambda: torch.fft.irfft(torch.randn(3, 33, dtype=torch.complex64)), 3 * 2.5 * 64 * log2(64)),
        (lambda: torch.fft.fft2(torch.randn(3, 8, 8, dtype=torch.complex64)), 3 * 5 * 64 * log2(64)),
        (lambda: torch.fft.fft(torch.randn(4, 1)), 0),
    ],
)
def test_transforms(work: Callable[[], Any], expected: float) -> None:
    assert flop_of(work) == int(expected)


# -- what counts nothing --


@pytest.mark.parametrize(
    "work",
    [
        lambda: torch.outer(SQUARE[0], SQUARE[1]),
        lambda: (SQUARE[:, :, None] * SQUARE[None]).sum(1),
        lambda: torch.zeros(N, N).index_add_(0, torch.arange(N), SQUARE),
        lambda: SQUARE.cumprod(0),
        lambda: F.interpolate(SQUARE[None, None], scale_factor=2, mode="bilinear"),
        lambda: F.grid_sample(SQUARE[None, None], torch.zeros(1, 3, 3, 2), align_corners=False),
        lambda: torch.dist(SQUARE, SQUARE),
        lambda: F.cosine_similarity(SQUARE, SQUARE),
        lambda: F.layer_norm(SQUARE, (N,)),
    ],
)
def test_elementwise_operations_reductions_and_gathers_count_nothing(work: Callable[[], Any]) -> None:
    assert flop_of(work) == 0
