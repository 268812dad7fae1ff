"""Of all operations of this torch, those that contract are counted or refused. Honest programs are refused nothing."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils.checkpoint import checkpoint

from pytest_autoresearch.candidate.flop import counting
from pytest_autoresearch.candidate.flop_formulas import FORMULAS
from pytest_autoresearch.candidate.flop_rules import INSIDE, OPAQUE, Rule, name_of, rule_for

SUGGESTIVE_NAME = re.compile(
    r"mm|mv|dot|matmul|linear|conv|attention|attn|rnn|lstm|gru|fft|linalg|solve|svd|eig|qr|lu(?!e)|cholesky|inverse|einsum"
    r"|matri|dist|bag|product|outer|kron|det|ormqr|addr|multi_head|transformer|sampled|combination|ger$"
)
SUGGESTIVE_ARGUMENTS = {
    "mat",
    "mat1",
    "mat2",
    "batch1",
    "batch2",
    "vec",
    "vec1",
    "vec2",
    "weight",
    "weights",
    "query",
    "A",
    "B",
    "tau",
    "hx",
    "LU",
    "dense",
    "per_sample_weights",
}
NO_CONTRACTION = re.compile(
    r"norm|[egilr]lu|softplus|gamma|lerp|sqrt|loss|binary_cross_entropy|histogram|bincount|dummy|c?um(?:max|min)|hamming|detach"
    r"|upsample|embedding$|prepack|unpack|pack_4bit|pack_gemm|convert|reorder|flatten_weight|thnn_fused|freq"
    r"|slice_inverse|to_sparse|search|fused_sdp_choice|linalg_(?:cross|_powsum|check_errors)|_prelu|^dist$|quantized_cell_params"
    r"|padded_dense|softmax"
)
"""Looked at: normalizations, activations, losses, scans, gathers, interpolation, changes of a layout."""


def operations() -> dict[str, OpOverload]:
    found = {}
    for full_name in torch._C._dispatch_get_all_op_names():
        namespace, _, rest = full_name.partition("::")
        name, _, overload = rest.partition(".")
        found[full_name] = getattr(getattr(getattr(torch.ops, namespace), name), overload or "default")
    return found


OPERATIONS = {name: func for name, func in operations().items() if not name.startswith("tests_")}


def suggests_a_contraction(func: OpOverload) -> bool:
    names = {argument.name for argument in func._schema.arguments}
    return bool(SUGGESTIVE_NAME.search(name_of(func).rpartition("::")[2]) or names & SUGGESTIVE_ARGUMENTS)


def test_what_contracts_is_counted_or_refused() -> None:
    """If this fails in a new torch: does the operation contract? Then give it a formula, or leave it refused."""
    plain = {
        name_of(func) for func in OPERATIONS.values() if rule_for(func) is Rule.PLAIN and suggests_a_contraction(func)
    }
    assert sorted(name for name in plain if not NO_CONTRACTION.search(name)) == []


def test_compositions_that_work_by_themselves_are_refused() -> None:
    """Whether a composition calls other operations cannot be seen from outside. These families do not."""
    families = re.compile(r"fbgemm_linear_(?!quantize)|quantized.*_cell$|quantized_linear_prepacked")
    suspects = [func for func in OPERATIONS.values() if families.search(name_of(func))]
    assert suspects
    assert [str(func) for func in suspects if rule_for(func) is not Rule.REFUSED] == []


@pytest.mark.skipif(torch.__version__ < (2, 13), reason="lacks the newest operations")
def test_every_name_in_the_tables_is_one_of_torchs() -> None:
    known = {name_of(func) for func in OPERATIONS.values()}
    assert {name for name in (*FORMULAS, *INSIDE, *OPAQUE) if "flex_attention" not in name} <= known


# -- honest programs --


class Net(nn.Module):
    """Most of what is common in a small language model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(32, 16)
        self.convolution = nn.Conv1d(16, 16, 3, padding=2)
        self.recurrent = nn.GRU(16, 16, batch_first=True)
        self.norm, self.batch_norm = nn.LayerNorm(16), nn.BatchNorm1d(16)
        self.group_norm, self.rms_norm = nn.GroupNorm(2, 16), nn.RMSNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.linear = nn.utils.parametrizations.weight_norm(nn.Linear(16, 16))
        self.head = nn.Linear(16, 32)

    def forward(self, tokens: Tensor) -> Tensor:
        x = F.dropout(self.embedding(tokens), 0.1, self.training)
        x = self.convolution(x.mT)[..., : tokens.shape[1]].mT + self.recurrent(x)[0]
        x = self.group_norm(self.batch_norm(x.mT)).mT
        x = x + self.attention(self.norm(x), x, x, need_weights=False)[0]
        x = x + checkpoint(lambda x: F.silu(self.linear(x)) * F.gelu(x), self.rms_norm(x), use_reentrant=False)
        x = F.interpolate(x.mT, scale_factor=2, mode="linear")[..., ::2].mT.cumsum(1) / 4
        _, best = F.softmax(x, -1).topk(4)
        return 30 * torch.tanh(self.head(x.scatter(-1, best, 0.0)) / 30)


def test_a_model_of_many_parts_trains_and_answers() -> None:
    with counting() as flop:
        model = Net()
        average = torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, 10)
        tokens = torch.randint(32, (4, 9))
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(tokens[:, :-1])
        F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten(), label_smoothing=0.1).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
        trained = flop()
        with torch.no_grad():
            average.eval()(tokens)
    assert 0 < trained < flop()


def train(optimizer: Callable[..., torch.optim.Optimizer], **options: Any) -> int:
    """The flop of two steps of a small layer."""
    with counting() as flop:
        layer = nn.Linear(4, 4, bias=False)
        steps = optimizer(layer.parameters(), **options)

        def loss() -> Tensor:
            steps.zero_grad()
            value = layer(torch.ones(3, 4)).square().sum()
            value.backward()
            return value

        for _ in range(2):
            steps.step(loss)
    return flop()


@pytest.mark.parametrize(
    "name",
    [name for name in torch.optim.__all__ if name[0].isupper() and name not in ("Optimizer", "SparseAdam")],
)
def test_optimizers_are_refused_nothing(name: str) -> None:
    assert train(getattr(torch.optim, name)) >= 2 * 2 * (2 * 3 * 4 * 4)  # the layer itself: forwards and its gradient


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}, {"foreach": False}])
def test_forms_of_an_optimizer_count_nothing(options: dict[str, bool]) -> None:
    assert train(torch.optim.AdamW, **options) == 2 * 2 * (2 * 3 * 4 * 4)


def test_transformer_trains_and_answers() -> None:
    model, x = nn.Transformer(16, 2, 1, 1, 32, batch_first=True), torch.randn(2, 6, 16)
    mask = nn.Transformer.generate_square_subsequent_mask(6)
    with counting() as flop:
        model(x, x, mask, tgt_mask=mask, tgt_is_causal=True).sum().backward()
        trained = flop()
        with torch.no_grad():
            model.eval()(x, x)
    assert 0 < 2 * trained / 3 < flop()


def test_transformations_of_functions_are_counted() -> None:
    weight, x = torch.randn(4, 4), torch.randn(3, 4)

    def loss(weight: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(weight @ x).sum()

    with counting() as flop:
        torch.func.vmap(torch.func.grad(loss), (None, 0))(weight, x)
        torch.func.jvp(lambda weight: loss(weight, x[0]), (weight,), (weight,))
        torch.func.hessian(lambda weight: loss(weight, x[0]))(weight)
        torch.autograd.grad(loss(weight.requires_grad_(), x[0]), weight, create_graph=True)[0].square().sum().backward()
    assert flop() > 0


def test_losses_and_sparse_gradients_are_refused_nothing() -> None:
    table = nn.Embedding(32, 8, sparse=True)
    bag = nn.EmbeddingBag(32, 8, sparse=True, mode="mean")
    steps = torch.optim.SparseAdam([*table.parameters(), *bag.parameters()])
    with counting():
        (table(torch.randint(32, (4, 6))).sum() + bag(torch.randint(32, (4, 6))).sum()).backward()
        steps.step()
        log_probabilities = torch.randn(9, 2, 5, requires_grad=True)
        F.ctc_loss(log_probabilities.log_softmax(-1), torch.ones(2, 3).long(), (9, 9), (3, 3)).backward()
        F.kl_div(log_probabilities.log_softmax(-1), log_probabilities.softmax(-1), reduction="batchmean").backward()
        nn.AdaptiveLogSoftmaxWithLoss(8, 32, [8])(torch.randn(4, 8), torch.randint(32, (4,)))
