"""Gradients of two half batches make one step."""

from baseline import *


class Optimizer(torch.optim.AdamW):
    """Steps at every second call."""

    calls = 0

    def step(self, closure: None = None) -> None:
        self.calls += 1
        if self.calls % 2 == 0:
            super().step(closure)
            super().zero_grad(set_to_none=True)

    def zero_grad(self, set_to_none: bool = True) -> None:
        pass


BATCH_SIZE = BATCH_SIZE // 2


def make_optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    return [Optimizer(model.parameters(), lr=LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True)]
