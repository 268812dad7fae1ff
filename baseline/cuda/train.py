"""A GPT in the style of 2026, after karpathy/autoresearch and what its public session logs found: the program to beat.

Rotary positions, QK-norm, ReLU², RMSNorm without weights, sliding windows, value embeddings with gates, scalars on the
residual stream, a soft cap on the logits, an untied head; Muon for the matrices of the blocks, AdamW for the rest. In
bfloat16 and compiled on a card from Ampere on; elsewhere in float32, slowly. "mar8" below is the log of 125 experiments
on one H100 in karpathy/autoresearch PR #44, of five minutes each; two seeds were 0.0007 val_bpb apart in it.

Shapes: B sequences, T tokens, C = WIDTH channels, H heads of D = HEAD_DIM channels, K heads of keys and values, V kinds
of token. A stack is N matrices of one shape, (N, rows, columns).
"""

import gc
import math
import os
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from pytest_autoresearch import Run

# Model: one dial, DEPTH
DEPTH = 9  # blocks; mar8: 8 and 10 of the same width are worse by 0.002
ASPECT_RATIO = 57  # channels per block, rounded up to whole heads: 9 blocks are 640 wide, 8 are 512
HEAD_DIM = 128
HEADS = -(-DEPTH * ASPECT_RATIO // HEAD_DIM)
KV_HEADS = HEADS  # fewer is grouped-query attention (arXiv 2305.13245); mar8: one for all costs 0.008
WIDTH = HEADS * HEAD_DIM
MLP_WIDTH = 4 * WIDTH
WINDOW_PATTERN = "SSSSL"  # short and long windows in turn, the last one long; mar8: "SSSL" costs 0.002 in 9 blocks
SHORT_WINDOW = 1 / 8  # of the sequence; mar8: better than 1/2, 1/6 and 1/10
ROTARY_BASE = 200_000  # mar8: better than 10,000 by 0.001
GATE_CHANNELS = 32  # of the residual stream, that a value embedding's gate sees
SOFTCAP = 15.0  # logits stay within ± this (Gemma 2, arXiv 2408.00118)
INIT_SCALE = 0.68  # of 1 / √C, the deviation of the matrices that read the residual stream; mar8
HEAD_STD = 0.001
X0_INIT = 0.05  # of the embedding, added again before each block; mar8

# Optimization
BATCH_SIZE = 64  # sequences in one micro-batch; lower it where memory runs out, the total batch stays what it is
TOTAL_BATCH_SIZE = 2**18  # tokens per optimizer step; mar8: better than 2**19 by 0.012
WARMDOWN = 0.75  # fraction of the budget; mar8, where any warmup hurts
FINAL_LR = 0.05  # of the peak
MATRIX_LR = 0.04  # Muon
WEIGHT_DECAY = 0.2  # of the matrices, cautious, falling to zero with the budget
MOMENTUM = (0.85, 0.95)  # of Muon, at the first step and from MOMENTUM_WARMUP on
MOMENTUM_WARMUP = 200  # optimizer steps
NEURON_BETA = 0.95  # how slowly NorMuon's mean squares forget
ADAM_SCALE = (WIDTH / 768) ** -0.5  # on AdamW's rates below that depend on the width; nanochat tuned them at 768
EMBEDDING_LR = 0.9 * ADAM_SCALE
HEAD_LR = 0.005 * ADAM_SCALE
RESIDUAL_LR = 0.005
X0_LR = 0.5
BETAS = (0.8, 0.95)
X0_BETAS = (0.96, 0.95)
EMBEDDING_DECAY = 0.001  # this and the next two: mar8, 0.002 together
VALUE_EMBEDDING_DECAY = 0.003
HEAD_DECAY = 0.01

# Amsel et al. (Polar Express), arXiv 2505.16932: five steps x ← a x + b x³ + c x⁵ for norms up to 1 / POLAR_MARGIN
POLAR_MARGIN = 1.02
POLAR_EXPRESS = (
    (8.15655, -22.48329, 15.87877),
    (4.04293, -2.80892, 0.50000),
    (3.89167, -2.77248, 0.50606),
    (3.28575, -2.36813, 0.46449),
    (2.34654, -1.70978, 0.42324),
)

capability = torch.cuda.get_device_capability() if torch.cuda.is_available() else (0, 0)
flash_kernels = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]  # torch's order
if capability[0] == 9:  # Hopper, where cuDNN is up to twice as fast: huggingface/transformers PR #48163
    flash_kernels = [SDPBackend.CUDNN_ATTENTION, *flash_kernels]


def is_fast(device: torch.device) -> bool:
    """Whether there are bfloat16, flash kernels and Triton, of which compiled code and FlexAttention are made."""
    return device.type == "cuda" and capability >= (8, 0) and os.environ.get("TORCH_COMPILE_DISABLE", "0") != "1"


def compiled(function: Callable, device: torch.device) -> Callable:
    return torch.compile(function, dynamic=False) if is_fast(device) else function


class Linear(nn.Linear):
    """No bias; weights in float32 for the optimizer's sake, multiplied in the dtype of what comes in."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


def norm(x: Tensor) -> Tensor:
    """RMSNorm (Zhang and Sennrich, arXiv 1910.07467) without weights."""
    return F.rms_norm(x, (x.size(-1),))


def activation(x: Tensor) -> Tensor:
    """ReLU² (So et al., Primer, arXiv 2109.08668)."""
    return F.relu(x).square()


def rotary_table(length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each position's angles, (T, 1, D / 2) each (Su et al., RoFormer, arXiv 2104.09864)."""
    frequency = ROTARY_BASE ** (-torch.arange(0, HEAD_DIM, 2, device=device) / HEAD_DIM)
    angle = torch.outer(torch.arange(length, device=device), frequency)[:, None]
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # (B, T, H, D) -> (B, T, H, D)
    """Turn each pair of channels by its angle, in float32: bfloat16 knows late positions by three digits only."""
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1).to(x.dtype)


def sliding_window(window: int, length: int, device: torch.device) -> BlockMask | Tensor:
    """A mask for `attention`: each position sees itself and the `window` - 1 before it.

    In blocks where FlexAttention can be compiled, which then skips what is masked; else a boolean, (T, T).
    """

    def visible(batch: Tensor | None, head: Tensor | None, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (query - key < window)

    if is_fast(device):
        return create_block_mask(visible, None, None, length, length, device=device)
    position = torch.arange(length, device=device)
    return visible(None, None, position[:, None], position)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: BlockMask | Tensor | None) -> Tensor:
    """q (B, T, H, D), k and v (B, T, K, D) -> (B, T, H, D). Causal; without a mask over the whole sequence."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    grouped = q.size(1) != k.size(1)
    if isinstance(mask, BlockMask):  # flash kernels of torch know no windows
        y = flex_attention(q, k, v, block_mask=mask, enable_gqa=grouped)
    else:
        with sdpa_kernel(flash_kernels, set_priority=True):
            y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, enable_gqa=grouped)
    return y.transpose(1, 2)


class ValueEmbedding(nn.Module):
    """What each token adds to the values, by itself, as far as a gate per head lets it.

    Zhou et al. (ResFormer), arXiv 2410.17897; as an embedding with gates: KellerJordan/modded-nanogpt, nanochat.
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, KV_HEADS * HEAD_DIM)
        self.gate = Linear(GATE_CHANNELS, KV_HEADS)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:  # (B, T, C), (B, T) -> (B, T, K, D)
        gate = 2 * torch.sigmoid(self.gate(x[..., :GATE_CHANNELS]))
        return gate[..., None] * self.table(tokens).unflatten(-1, (KV_HEADS, HEAD_DIM)).to(x.dtype)


class Attention(nn.Module):
    """Each position gathers from itself and those before it."""

    def __init__(self, value_embedding: ValueEmbedding | None) -> None:
        super().__init__()
        self.q = Linear(WIDTH, HEADS * HEAD_DIM)
        self.k = Linear(WIDTH, KV_HEADS * HEAD_DIM)
        self.v = Linear(WIDTH, KV_HEADS * HEAD_DIM)
        self.out = Linear(HEADS * HEAD_DIM, WIDTH)
        self.value_embedding = value_embedding

    def heads(self, x: Tensor) -> tuple[Tensor, ...]:  # (B, T, C) -> q (B, T, H, D), k and v (B, T, K, D)
        weight = torch.cat((self.q.weight, self.k.weight, self.v.weight))  # one matmul reads x once
        y = F.linear(x, weight.to(x.dtype)).unflatten(-1, (-1, HEAD_DIM))
        return y.split((HEADS, KV_HEADS, KV_HEADS), dim=2)

    def forward(
        self, x: Tensor, tokens: Tensor, rotary: tuple[Tensor, Tensor], mask: BlockMask | Tensor | None
    ) -> Tensor:
        q, k, v = self.heads(x)
        if self.value_embedding is not None:
            v = v + self.value_embedding(x, tokens)
        q, k = norm(rotate(q, *rotary)), norm(rotate(k, *rotary))  # QK-norm (Henry et al., arXiv 2010.04245)
        return self.out(attention(q, k, v, mask).flatten(2))


class MLP(nn.Module):
    """Each position thinks by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.up = Linear(WIDTH, MLP_WIDTH)
        self.out = Linear(MLP_WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C) -> (B, T, C)
        return self.out(activation(self.up(x)))


class Block(nn.Module):
    def __init__(self, value_embedding: ValueEmbedding | None) -> None:
        super().__init__()
        self.attention = Attention(value_embedding)
        self.mlp = MLP()

    def forward(
        self, x: Tensor, tokens: Tensor, rotary: tuple[Tensor, Tensor], mask: BlockMask | Tensor | None
    ) -> Tensor:
        x = x + self.attention(norm(x), tokens, rotary, mask)
        return x + self.mlp(norm(x))


class GPT(nn.Module):
    def __init__(self, vocab_size: int, sequence_length: int, device: torch.device) -> None:
        super().__init__()
        self.dtype = torch.bfloat16 if is_fast(device) else torch.float32
        self.embedding = nn.Embedding(vocab_size, WIDTH)
        has_value_embedding = [(DEPTH - 1 - layer) % 2 == 0 for layer in range(DEPTH)]  # mar8: every third costs 0.004
        self.blocks = nn.ModuleList(Block(ValueEmbedding(vocab_size) if has else None) for has in has_value_embedding)
        self.head = Linear(WIDTH, vocab_size)
        self.residual_scale = nn.Parameter(torch.ones(DEPTH))
        self.x0_scale = nn.Parameter(torch.full((DEPTH,), X0_INIT))
        self.to(device)
        self.rotary = rotary_table(sequence_length, device)
        short = sliding_window(math.ceil(SHORT_WINDOW * sequence_length), sequence_length, device)
        pattern = (WINDOW_PATTERN * DEPTH)[: DEPTH - 1] + "L"
        self.masks = [short if window == "S" else None for window in pattern]

    def embed(self, tokens: Tensor) -> Tensor:  # (B, T) -> (B, T, C)
        return norm(self.embedding(tokens).to(self.dtype))

    def trunk(self, tokens: Tensor) -> Tensor:  # (B, T) -> (B, T, C)
        x = x0 = self.embed(tokens)
        for layer, block in enumerate(self.blocks):
            x = self.residual_scale[layer] * x + self.x0_scale[layer] * x0
            x = block(x, tokens, self.rotary, self.masks[layer])
        return norm(x)

    def forward(self, tokens: Tensor) -> Tensor:  # (B, T) -> logits (B, T, V) in float32
        logits = self.head(self.trunk(tokens)).float()
        return SOFTCAP * torch.tanh(logits / SOFTCAP)


def init_weights(model: nn.Module) -> None:
    """Sublayers write nothing at first; gates stand half open, which lets a value embedding through as it is."""
    bound = INIT_SCALE * math.sqrt(3 / WIDTH)  # uniform has no outliers
    for name, parameter in model.named_parameters():
        if name.endswith(("out.weight", "gate.weight")):
            nn.init.zeros_(parameter)
        elif name == "embedding.weight":
            nn.init.normal_(parameter)
        elif name == "head.weight":
            nn.init.normal_(parameter, std=HEAD_STD)
        elif parameter.ndim == 2:
            nn.init.uniform_(parameter, -bound, bound)


def loss_function(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean nats per token."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def rescale(x: Tensor, length: float | Tensor) -> Tensor:  # (N, rows, columns) -> (N, rows, columns)
    """Give each matrix this Frobenius norm; zeros stay zeros."""
    return x * (length / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-12))


def equilibrate(x: Tensor) -> Tensor:  # (N, rows, columns) -> (N, rows, columns)
    """Make all rows equally long: a few long ones would leave the others to slow convergence.

    MuonEq-R, arXiv 2603.28254; gains in qlabs-eng/slowrun PRs #71, #75 and #77, and taken in by nanochat (4e014d3).
    """
    x = rescale(x, 1.0)
    return x / x.norm(dim=-1, keepdim=True).clamp_min(1e-7)


def orthogonalize(x: Tensor) -> Tensor:  # (N, rows, columns) -> (N, rows, columns) in float32
    """Bring all singular values near 1: the nearest semi-orthogonal matrix, by Polar Express (arXiv 2505.16932).

    Its norm is then set to what it would be without the error left (Muon+, arXiv 2602.21545).
    """
    rank = min(x.shape[-2:])
    tall = x.size(-2) > x.size(-1)
    x = rescale(x, 1 / POLAR_MARGIN)
    x = (x.mT if tall else x).to(torch.bfloat16 if x.is_cuda else x.dtype)
    for a, b, c in POLAR_EXPRESS:
        xx = x @ x.mT
        x = a * x + (b * xx + c * (xx @ xx)) @ x
    return rescale((x.mT if tall else x).float(), math.sqrt(rank))


def reduce_variance(x: Tensor, mean_squares: Tensor) -> Tensor:  # (N, rows, columns) -> (N, rows, columns)
    """Let each neuron's updates be about as large as the others', with the norm of the whole kept.

    NorMuon, arXiv 2510.05491; a neuron is what there are more of, a row or a column. Changes `mean_squares`.
    """
    mean_squares.lerp_(x.square().mean(axis_within_neuron(x.shape), keepdim=True), 1 - NEURON_BETA)
    return rescale(x * mean_squares.clamp_min(1e-10).rsqrt(), x.norm(dim=(-2, -1), keepdim=True))


def axis_within_neuron(shape: torch.Size) -> int:
    return -1 if shape[-2] >= shape[-1] else -2


def muon_update(
    weights: Tensor,
    gradients: Tensor,
    average: Tensor,
    mean_squares: Tensor,
    lr: Tensor,
    momentum: Tensor,
    weight_decay: Tensor,
) -> None:
    """One step of a stack of weights, (N, rows, columns); changes them, `average` and `mean_squares`.

    Muon: Jordan et al., kellerjordan.github.io/posts/muon, with Nesterov momentum. Cautious weight decay, arXiv
    2510.12402: only where it goes the way of the update; mar8: worth 0.005.
    """
    average.lerp_(gradients, 1 - momentum)
    update = gradients.lerp(average, momentum)
    update = reduce_variance(orthogonalize(equilibrate(update)), mean_squares)
    decay = weight_decay * weights * (update * weights > 0)
    weights -= lr * math.sqrt(max(1.0, weights.size(-2) / weights.size(-1))) * (update + decay)


class Muon(torch.optim.Optimizer):
    """`muon_update` for matrices, all of one shape at once."""

    def __init__(self, matrices: list[Tensor], lr: float, momentum: float, weight_decay: float) -> None:
        shapes = sorted({matrix.shape for matrix in matrices})
        groups = [{"params": [matrix for matrix in matrices if matrix.shape == shape]} for shape in shapes]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.update = compiled(muon_update, matrices[0].device)

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            matrices = group["params"]
            weights, gradients = torch.stack(matrices), torch.stack([matrix.grad for matrix in matrices])
            state = self.state[matrices[0]]  # of the whole stack
            if not state:
                state["average"] = torch.zeros_like(weights)
                state["mean_squares"] = torch.zeros_like(weights.sum(axis_within_neuron(weights.shape), keepdim=True))
            # As tensors, for a new number would mean a new compilation.
            rates = [torch.full((), group[key], device=weights.device) for key in ("lr", "momentum", "weight_decay")]
            self.update(weights, gradients, state["average"], state["mean_squares"], *rates)
            torch._foreach_copy_(matrices, weights.unbind())


def make_optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks; AdamW for embeddings, head, scalars, and whatever is added to them."""
    tables = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
    special = {*tables, model.head.weight, model.x0_scale}
    matrices = [p for p in model.blocks.parameters() if p.ndim == 2 and p not in special]
    others = [p for p in model.parameters() if p not in special.union(matrices)]
    groups = [
        {"params": [model.embedding.weight], "lr": EMBEDDING_LR, "weight_decay": EMBEDDING_DECAY},
        {"params": [t for t in tables if t is not model.embedding.weight], "weight_decay": VALUE_EMBEDDING_DECAY},
        {"params": [model.head.weight], "lr": HEAD_LR, "weight_decay": HEAD_DECAY},
        {"params": [model.x0_scale], "lr": X0_LR, "betas": X0_BETAS},
        {"params": others, "lr": RESIDUAL_LR},
    ]
    adamw = torch.optim.AdamW(groups, lr=EMBEDDING_LR, betas=BETAS, eps=1e-10, weight_decay=0.0, fused=True)
    return [adamw, Muon(matrices, MATRIX_LR, MOMENTUM[0], WEIGHT_DECAY)]


def schedule(progress: float) -> float:
    """Factor on every learning rate, for `progress` from 0 to 1."""
    return FINAL_LR + (1 - FINAL_LR) * min(1.0, (1.0 - progress) / WARMDOWN)


def momentum_schedule(step: int, progress: float) -> float:
    """Muon's momentum at an optimizer step, counted from 0."""
    first, last = MOMENTUM
    return first + (last - first) * min(1.0, step / MOMENTUM_WARMUP)


def weight_decay_schedule(progress: float) -> float:
    """Factor on Muon's weight decay."""
    return 1.0 - progress


def set_rates(optimizers: list[torch.optim.Optimizer], step: int, progress: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("peak_lr", group["lr"]) * schedule(progress)
            if isinstance(optimizer, Muon):
                group["momentum"] = momentum_schedule(step, progress)
                group["weight_decay"] = WEIGHT_DECAY * weight_decay_schedule(progress)


def optimizer_step(optimizers: list[torch.optim.Optimizer], micro_batches: int) -> None:
    """Step by the mean over the micro-batches whose gradients have been summed up."""
    for optimizer in optimizers:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if micro_batches > 1:
            torch._foreach_div_([p.grad for p in parameters if p.grad is not None], micro_batches)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def train(run: Run) -> Callable[[Tensor], Tensor]:
    torch.set_float32_matmul_precision("high")
    model = GPT(run.vocab_size, run.sequence_length, run.device)
    init_weights(model)
    optimizers = make_optimizers(model)
    # Compiled together with the model, the loss reads its logits as they come, and nobody writes them in float32.
    loss_of = compiled(lambda tokens, targets: loss_function(model(tokens), targets), run.device)
    micro_batches = max(1, round(TOTAL_BATCH_SIZE / (BATCH_SIZE * run.sequence_length)))
    losses: list[Tensor] = []  # of the micro-batches since the last step
    means: list[Tensor] = []  # of the steps not logged yet
    step = 0

    def finish_step() -> None:
        nonlocal step
        set_rates(optimizers, step, run.progress)
        optimizer_step(optimizers, len(losses))
        means.append(torch.stack(losses).mean())
        losses.clear()
        if len(means) == 2:  # a step late, for whoever reads a loss waits for it and hands the GPU nothing meanwhile
            run.log(means.pop(0))
        step += 1
        if step == 2:  # all is compiled: leave it alone, for a collection stops the GPU for half a second
            gc.collect()
            gc.freeze()
            gc.disable()

    for tokens, targets in run.batches(BATCH_SIZE):  # (B, T) each; ends when the budget is spent
        loss = loss_of(tokens, targets)
        loss.backward()
        losses.append(loss.detach())
        if len(losses) == micro_batches:
            finish_step()
    if losses:  # the budget has ended in the middle of a step
        finish_step()
    for mean in means:
        run.log(mean)
    gc.enable()
    gc.unfreeze()
    return compiled(model, run.device)
