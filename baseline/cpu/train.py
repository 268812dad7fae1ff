"""A small GPT in the style of 2019, tuned with care: the program to beat on two CPU cores.

LayerNorm before each sublayer, GELU, learned positions, AdamW at a constant learning rate: what is newer than that is
an experiment. Shapes: B sequences, T tokens, C = WIDTH channels, H heads of D = C / H channels, V kinds of token.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pytest_autoresearch import Run

# Model
DEPTH = 1  # what a second block adds at this budget, it loses in steps: see experiments/deeper.py
WIDTH = 48
HEADS = 3
MLP_WIDTH = 4 * WIDTH
INIT_STD = 0.05
RESIDUAL_STD = INIT_STD / math.sqrt(2 * DEPTH)  # of the weights that write to the residual stream

# Optimization
BATCH_SIZE = 16  # sequences
LEARNING_RATE = 4e-3
BETAS = (0.9, 0.98)
WEIGHT_DECAY = 0.0
WARMUP = 0.05  # fraction of the budget

Norm = nn.LayerNorm


def activation(x: Tensor) -> Tensor:
    return F.gelu(x)


class Embedding(nn.Module):
    """What a token is, plus where it stands."""

    def __init__(self, vocab_size: int, sequence_length: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, WIDTH)
        self.position = nn.Embedding(sequence_length, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:  # (B, T) -> (B, T, C)
        return self.token(tokens) + self.position.weight[: tokens.size(1)]


class Attention(nn.Module):
    """Each position gathers from itself and those before it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def heads(self, x: Tensor) -> tuple[Tensor, ...]:  # (B, T, C) -> q, k, v, each (B, H, T, D)
        return self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4).unbind()

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C) -> (B, T, C)
        q, k, v = self.heads(x)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Each position thinks by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(WIDTH, MLP_WIDTH)
        self.out = nn.Linear(MLP_WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C) -> (B, T, C)
        return self.out(activation(self.up(x)))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = Norm(WIDTH)
        self.attention = Attention()
        self.mlp_norm = Norm(WIDTH)
        self.mlp = MLP()

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C) -> (B, T, C)
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class GPT(nn.Module):
    def __init__(self, vocab_size: int, sequence_length: int) -> None:
        super().__init__()
        self.embedding = Embedding(vocab_size, sequence_length)
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm = Norm(WIDTH)
        self.head = nn.Linear(WIDTH, vocab_size, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:  # (B, T) -> logits (B, T, V)
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def init_weights(model: nn.Module) -> None:
    """Small normal weights, smaller where a sublayer writes to the residual stream; biases zero; gains one."""
    for name, parameter in model.named_parameters():
        if name.endswith("out.weight"):
            nn.init.normal_(parameter, std=RESIDUAL_STD)
        elif parameter.ndim == 2:
            nn.init.normal_(parameter, std=INIT_STD)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


def loss_function(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean nats per token."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def make_optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim == 1]  # gains and biases: decay would only pull them off course
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return [torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS, fused=True)]


def schedule(progress: float) -> float:
    """Factor on every learning rate, for `progress` from 0 to 1."""
    return min(1.0, progress / WARMUP)


def train(run: Run) -> Callable[[Tensor], Tensor]:
    model = GPT(run.vocab_size, run.sequence_length).to(run.device)
    init_weights(model)
    optimizers = make_optimizers(model)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    for group in groups:
        group["peak_lr"] = group["lr"]

    for tokens, targets in run.batches(BATCH_SIZE):  # (B, T) each; ends when the budget is spent
        loss = loss_function(model(tokens), targets)
        loss.backward()
        for group in groups:
            group["lr"] = group["peak_lr"] * schedule(run.progress)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        run.log(loss)
    return model
