"""Which operations of torch are counted, and how; which count nothing; which are refused."""

import re
from enum import Enum
from typing import Any

import torch
from torch._ops import OpOverload

from pytest_autoresearch.candidate.flop_formulas import FORMULAS, Formula


class Rule(Enum):
    """What is done with an operation that has no formula."""

    PLAIN = "run it: it does not contract"
    INSIDE = "count the operations that it calls"
    REFUSED = "raise an error: it contracts, or nobody knows what it does"


INSIDE = {
    "linalg_matrix_exp",
    "linalg_pinv",
    "_trilinear",
    "_euclidean_dist",
    "_native_multi_head_attention",
    "_transformer_encoder_layer_fwd",
}
"""Operations that call others, which are counted."""

OPAQUE = {
    "fbgemm_linear_int8_weight",
    "fbgemm_linear_int8_weight_fp32_activation",
    "fbgemm_linear_fp16_weight",
    "fbgemm_linear_fp16_weight_fp32_activation",
    "quantized_lstm_cell",
    "quantized_gru_cell",
    "quantized_rnn_relu_cell",
    "quantized_rnn_tanh_cell",
    "_wrapped_quantized_linear_prepacked",
}
"""Operations that torch registers as compositions of others, so that a dispatch mode never sees them. In fact they
compute by themselves."""

CONTRACTS = re.compile(
    r"(?:^|_)(?:\w*(?:mm|mv|matmul|linear|solve|gemm)|v?dot|[cp]dist|q?conv(?:olution)?(?:\d?d)?|attention|rnn|lstm|gru"
    r"|fft|linalg|svd\w*|eig\w*|qr|lu|cholesky|inverse|einsum|matrix|embedding_(?:bag|byte|[24]bit))(?=_|\d|$)"
)
"""The names of operations that contract. Without a formula they are refused, those of a later torch included."""

PLAIN = re.compile(
    r"upsample|prepack(?!ed)|unpack(?!ed)|pack_gemm|reorder|flatten_weight|thnn_fused|fftfreq|slice_inverse"
    r"|linalg_(?:cross|vector_norm|_powsum|check_errors)|sparse_mm_search"
)
"""Names that match CONTRACTS, of operations that do not contract."""

_KNOWN = frozenset(name.partition("::")[0] for name in torch._C._dispatch_get_all_op_names())
"""The namespaces of operations that torch itself brings."""
_TORCHS_OWN = frozenset(torch.library._impls)
"""The kernels in Python that torch itself brings. A program's own come later."""


def rule_for(func: Any) -> Formula | Rule:
    """The formula of an operation, or what to do with it."""
    if not isinstance(func, OpOverload):  # a higher-order operation
        return FORMULAS.get(func.name(), Rule.INSIDE)
    name = name_of(func)
    if name in OPAQUE:
        return Rule.REFUSED
    if written_in_python(func):
        return Rule.INSIDE
    if name in FORMULAS:
        return FORMULAS[name]
    if name in INSIDE or func._can_decompose():
        return Rule.INSIDE
    if func.namespace not in _KNOWN:
        return Rule.REFUSED
    base = name.rpartition("::")[2]
    return Rule.REFUSED if CONTRACTS.search(base) and not PLAIN.search(base) else Rule.PLAIN


def name_of(func: OpOverload) -> str:
    """`mm` for `aten::mm.out`, `addmm` for `aten::addmm_`, `quantized::linear` for `quantized::linear`."""
    name = func._schema.name.removeprefix("aten::")
    return name if name.endswith("__") else name.removesuffix("_")


def written_in_python(func: OpOverload) -> bool:
    """Whether the operation, or a kernel of it, is Python code, such as a program's `torch.library.custom_op`."""
    if func.namespace == "prims":
        return True
    overload = "" if func._overloadname == "default" else f".{func._overloadname}"
    kernel = f"{func._schema.name.replace('::', '/')}{overload}/"
    keys = [key.removeprefix(kernel) for key in torch.library._impls - _TORCHS_OWN if key.startswith(kernel)]
    return any(key != "Meta" and not key.startswith("Autograd") for key in keys)


def refusal(func: Any) -> RuntimeError:
    """The error of what cannot be counted: an operation, or the name of a function of torch."""
    name = func if isinstance(func, str) else f"torch.ops.{func}"
    return RuntimeError(
        f"{name} cannot be used under a budget in flop, because its flop cannot be counted. "
        "Use torch.matmul, F.linear, F.conv1d or another operation that is counted"
    )
