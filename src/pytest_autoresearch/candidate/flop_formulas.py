"""What the operations of torch cost in flop.

Contractions are counted: sums of products of two tensors' elements (matrix products, convolutions, attention, distances
of all pairs, weighted bags of rows), linear algebra and Fourier transforms. A multiplication and an addition are two
flop, and eight in complex numbers, which torch's own counter takes for real ones. Elementwise operations, reductions,
scans, gathers and scatters count nothing, even where a program builds a product of them.

Sources: torch.utils.flop_counter for convolutions and attention; LAPACK Working Note 41 for solving and factorizing;
Golub and Van Loan, "Matrix Computations", for eigenvalues and singular values; FFTW's convention for transforms.
"""

from collections.abc import Callable
from math import log2, prod
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

Formula = Callable[..., float]
"""Called with an operation's arguments and, as `out_val`, with what it returned. Returns its flop."""


def _is_sparse(tensor: Any) -> bool:
    return tensor.layout not in (torch.strided, torch._mkldnn)  # type: ignore[attr-defined]


def _stored(tensor: Any) -> int:
    """Elements of a dense tensor, stored elements of a sparse one."""
    if not _is_sparse(tensor):
        return int(tensor.numel())
    return int((tensor._values() if tensor.layout is torch.sparse_coo else tensor.values()).numel())


def _times(factor: Any) -> int:
    """The flop of a multiplication and an addition."""
    return 8 if factor.is_complex() else 2


def product(a: Any, b: Any) -> int:
    """(…, m, k) times (…, k, n) or (k), dense or sparse. Only stored elements are multiplied."""
    flop = _times(a)
    if not _is_sparse(b):
        return flop * _stored(a) * (int(b.shape[-1]) if b.ndim > 1 else 1)
    if not _is_sparse(a):
        return flop * _stored(b) * int(a.shape[-2])
    row, column = b.to_sparse()._indices()[0], a.to_sparse()._indices()[1]
    return flop * int(torch.bincount(row, minlength=b.shape[0])[column].sum())


def _product_of(first: int) -> Formula:
    """The formula of an operation that multiplies argument `first` by the next one."""
    return lambda *args, **kwargs: product(args[first], args[first + 1])


def _linear(inputs: Any, *args: Any, out_val: Any, **kwargs: Any) -> int:
    """Inputs (…, k) and outputs (…, n), in whatever form the weights are."""
    return int(2 * inputs.numel() * out_val.shape[-1])


def _linear_backward(inputs: Any, gradient: Any, weight: Any, mask: Any, **kwargs: Any) -> int:
    return int(2 * inputs.numel() * gradient.shape[-1] * sum(mask[:2]))


def _convolution(inputs: Any, weight: Any, *args: Any, out_val: Any, channel: int = 1, **kwargs: Any) -> int:
    return int(2 * out_val.numel() * weight.numel() // out_val.shape[channel])


def _transposed_convolution(inputs: Any, weight: Any, *args: Any, **kwargs: Any) -> int:
    return int(2 * inputs.numel() * weight.numel() // inputs.shape[1])


def _grouped_product(a: Any, b: Any, *args: Any, **kwargs: Any) -> int:
    """Groups of rows of `a`, of columns of `b`, or of both, as torch's `grouped_mm` takes them."""
    return product(a, b) // (len(a) if a.ndim > b.ndim else 1)


def _recurrent(inputs: Any, *weights: Any) -> int:
    """A recurrent layer: inputs (…, k), each of which is multiplied by all matrices once."""
    matrices = sum(weight.numel() for weight in weights if weight.ndim == 2)
    return int(2 * inputs.numel() // inputs.shape[-1] * matrices)


def _cpu_recurrent(inputs: Any, *weights: Any, out_val: Any = None, **kwargs: Any) -> int:
    return _recurrent(inputs, *weights[:2])


def _recurrent_at(inputs: int, weights: int, times: int = 1) -> Formula:
    """The formula of an operation whose arguments have these places; `weights` are a list."""
    return lambda *args, **kwargs: times * _recurrent(args[inputs], *args[weights])


def _weighted_bag(indices: int, weights: int) -> Formula:
    """Sums of weighted rows; plain sums of rows cost 0. `indices` and `weights` are places of arguments.

    The last axis of the first argument is the rows' length.
    """

    def formula(rows: Any, *args: Any, **kwargs: Any) -> int:
        given = (rows, *args)
        weighted = len(given) > weights and given[weights] is not None
        return int(2 * given[indices].numel() * rows.shape[-1]) if weighted else 0

    return formula


def _transform(flop: float, real: str = "inputs") -> Formula:
    """`flop` · N · log2 N for each transform over N points. `real`: whether "inputs" or "outputs" hold the N points.

    `flop` is 5 for complex points and 2.5 for real ones, as in FFTW's benchmarks (fftw.org/speed).
    """

    def formula(inputs: Any, dim: Any, *args: Any, out_val: Any, **kwargs: Any) -> float:
        points = inputs if real == "inputs" else out_val
        return flop * float(points.numel()) * log2(max(1, prod(points.shape[axis] for axis in dim)))

    return formula


def _matrices(flop: Callable[..., float]) -> Formula:
    """A formula for matrices (…, m, n) from one in m, n and the other arguments."""

    def formula(matrices: Any, *args: Any, **kwargs: Any) -> float:
        m, n = matrices.shape[-2:]
        return float(_times(matrices) / 2 * prod(matrices.shape[:-2]) * flop(m, n, *args, **kwargs))

    return formula


def _solution(per_element: float, matrix: int) -> Formula:
    """`per_element` · n for each element of the solution; argument number `matrix` is (…, n, n)."""

    def formula(*args: Any, out_val: Any, **kwargs: Any) -> float:
        solution = out_val if isinstance(out_val, torch.Tensor) else out_val[0]
        return _times(solution) / 2 * per_element * int(args[matrix].shape[-1]) * int(solution.numel())

    return formula


def _lu(m: int, n: int, *args: Any, **kwargs: Any) -> float:
    k = min(m, n)
    return 2 * m * n * k - (m + n) * k**2 + 2 / 3 * k**3


def _qr(m: int, n: int, *args: Any, **kwargs: Any) -> float:
    k = min(m, n)
    return 2 * max(m, n) * k**2 - 2 / 3 * k**3


def _svd(m: int, n: int, full: bool = False, vectors: bool = True, **kwargs: Any) -> float:
    m, n = max(m, n), min(m, n)
    return 6 * m * n**2 + 20 * n**3 if vectors else 4 * m * n**2 - 4 / 3 * n**3


def _least_squares(m: int, n: int, b: Any, *args: Any, **kwargs: Any) -> float:
    columns = int(b.shape[-1]) if b.ndim > 1 else 1
    return _qr(m, n) + columns * (4 * m * n - min(m, n) ** 2)


def _householder(m: int, n: int, tau: Any, **kwargs: Any) -> float:
    k = int(tau.shape[-1])
    return 4 * m * n * k - 2 * (m + n) * k**2 + 4 / 3 * k**3


def _reflect(reflectors: Any, tau: Any, matrix: Any, left: bool = True, *args: Any, **kwargs: Any) -> float:
    (m, n), k = matrix.shape[-2:], tau.shape[-1]
    times = _times(matrix) / 2 * prod(matrix.shape[:-2])
    return float(times * (4 * m * n * k - 2 * (n if left else m) * k**2))


_solve, _factorize = _solution(2, 0), _matrices(_lu)
_TORCHS = {getattr(packet, "_qualified_op_name", packet.__name__): formula for packet, formula in flop_registry.items()}
_attention = _TORCHS["aten::_scaled_dot_product_flash_attention"]
_attention_backward = _TORCHS["aten::_scaled_dot_product_flash_attention_backward"]
_TABLE: list[tuple[str, Formula]] = [
    # products of matrices and vectors
    ("mm bmm mv dot vdot hspmm _int_mm _scaled_mm _scaled_mm_v2", _product_of(0)),
    ("_sparse_sparse_matmul _sparse_mm_reduce_impl", _product_of(0)),
    ("addmm baddbmm addbmm addmv sspaddmm _sparse_addmm _addmm_activation", _product_of(1)),
    ("matmul_backward", lambda gradient, a, b, mask, **kwargs: product(a, b) * sum(mask)),
    ("_sparse_mm_reduce_impl_backward", lambda a, b, *args, **kwargs: product(a, b) * sum(args[-1])),
    ("sparse_sampled_addmm", lambda wanted, a, *args, **kwargs: _times(a) * _stored(wanted) * a.shape[-1]),
    ("addr", lambda matrix, a, b, **kwargs: _times(a) * a.numel() * b.numel()),
    ("_foreach_mm", lambda a, b, **kwargs: sum(map(product, a, b))),
    ("_grouped_mm _scaled_grouped_mm _scaled_grouped_mm_v2", _grouped_product),
    ("_compute_linear_combination", lambda a, b, **kwargs: _times(a) * b.numel() * a.numel() // len(a)),
    ("linear mkldnn_linear _mixed_dtypes_linear mkldnn::_linear_pointwise mkl::_mkl_linear", _linear),
    ("quantized::linear quantized::linear_relu quantized::linear_dynamic quantized::linear_relu_dynamic", _linear),
    ("quantized::linear_dynamic_fp16 quantized::linear_relu_dynamic_fp16 onednn::qlinear_pointwise", _linear),
    ("_weight_int8pack_mm _weight_int4pack_mm _weight_int4pack_mm_for_cpu", _linear),
    ("_weight_int4pack_mm_with_scales_and_zeros _dyn_quant_matmul_4bit", _linear),
    ("linear_backward mkldnn_linear_backward", _linear_backward),
    # distances of all pairs, weighted bags of rows
    ("_cdist_forward _pdist_forward", lambda a, *args, out_val, **kwargs: 2 * out_val.numel() * a.shape[-1]),
    ("_cdist_backward _pdist_backward", lambda gradient, a, *args, **kwargs: 2 * gradient.numel() * a.shape[-1]),
    ("_embedding_bag _embedding_bag_forward_only", _weighted_bag(1, 6)),
    ("_embedding_bag_backward", _weighted_bag(1, 10)),
    ("_embedding_bag_dense_backward", _weighted_bag(1, 8)),
    ("_embedding_bag_per_sample_weights_backward", _weighted_bag(2, 2)),
    # convolutions, attention, recurrent layers
    ("mkldnn_convolution _nnpack_spatial_convolution slow_conv3d_forward slow_conv_dilated2d", _convolution),
    ("slow_conv_dilated3d _conv_depthwise2d conv_depthwise3d cudnn_convolution_relu", _convolution),
    ("cudnn_convolution_add_relu miopen_convolution miopen_convolution_relu", _convolution),
    ("miopen_convolution_add_relu miopen_depthwise_convolution", _convolution),
    ("conv_tbc", lambda *args, **kwargs: _convolution(*args, **kwargs, channel=2)),
    ("slow_conv_transpose2d slow_conv_transpose3d", _transposed_convolution),
    ("cudnn_convolution_transpose miopen_convolution_transpose", _transposed_convolution),
    ("_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_attention_math_for_mps", _attention),
    ("_scaled_dot_product_fused_attention_overrideable _cudnn_attention_forward", _attention),
    ("_scaled_dot_product_flash_attention_for_cpu_backward _cudnn_attention_backward", _attention_backward),
    ("_scaled_dot_product_fused_attention_overrideable_backward", _attention_backward),
    ("mkldnn_rnn_layer", _cpu_recurrent),
    ("mkldnn_rnn_layer_backward", lambda *args, **kwargs: 2 * _cpu_recurrent(*args, **kwargs)),
    ("_cudnn_rnn miopen_rnn", _recurrent_at(0, 1)),
    ("_cudnn_rnn_backward miopen_rnn_backward", _recurrent_at(0, 1, times=2)),
    ("_lstm_mps", _recurrent_at(0, 2)),
    ("lstm_mps_backward", _recurrent_at(5, 8, times=2)),
    # Fourier transforms
    ("_fft_c2c", _transform(5)),
    ("_fft_r2c", _transform(2.5)),
    ("_fft_c2r", _transform(2.5, "outputs")),
    # linear algebra
    ("linalg_lu linalg_lu_factor_ex _linalg_det _linalg_slogdet", _factorize),
    ("linalg_cholesky_ex cholesky linalg_ldl_factor_ex", _matrices(lambda m, n, *args, **kwargs: n**3 / 3)),
    ("cholesky_inverse", _matrices(lambda m, n, *args, **kwargs: 2 / 3 * n**3)),
    ("linalg_inv_ex", _matrices(lambda m, n, *args, **kwargs: 2 * n**3)),
    ("_linalg_solve_ex", lambda *args, **kwargs: _factorize(*args, **kwargs) + _solve(*args, **kwargs)),
    ("linalg_lu_solve linalg_ldl_solve", _solve),
    ("cholesky_solve _cholesky_solve_helper", _solution(2, 1)),
    ("linalg_solve_triangular", _solution(1, 0)),
    ("triangular_solve", _solution(1, 1)),
    ("geqrf", _matrices(_qr)),
    ("linalg_qr", _matrices(lambda m, n, mode="reduced", **kwargs: _qr(m, n) * (1 if mode == "r" else 2))),
    ("linalg_householder_product", _matrices(_householder)),
    ("ormqr", _reflect),
    ("linalg_lstsq", _matrices(_least_squares)),
    ("_linalg_eigh", _matrices(lambda m, n, uplo="L", vectors=True, **kwargs: (9 if vectors else 4 / 3) * n**3)),
    ("linalg_eig", _matrices(lambda m, n, **kwargs: 25 * n**3)),
    ("_linalg_eigvals linalg_eigvals", _matrices(lambda m, n, **kwargs: 10 * n**3)),
    ("_linalg_svd", _matrices(_svd)),
]
FORMULAS: dict[str, Formula] = {
    **{name.removeprefix("aten::"): formula for name, formula in _TORCHS.items()},
    **{name: formula for names, formula in _TABLE for name in names.split()},
}
"""By the name of the operation: `mm` for `aten::mm` in all its forms, in place or not."""
