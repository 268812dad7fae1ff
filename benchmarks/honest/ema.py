"""An exponential moving average of the weights answers."""

from baseline import *

DECAY = 0.98


class GPT(GPT):
    def average(self) -> None:
        if not hasattr(self, "averages"):
            self.averages = [p.detach().clone() for p in self.parameters()]
        for average, parameter in zip(self.averages, self.parameters(), strict=True):
            average.lerp_(parameter.detach(), 1 - DECAY)

    def forward(self, tokens: Tensor) -> Tensor:
        if self.training:
            self.average()
        return super().forward(tokens)

    def train(self, mode: bool = True) -> nn.Module:
        if not mode and self.training:
            for average, parameter in zip(self.averages, self.parameters(), strict=True):
                parameter.data.copy_(average)
        return super().train(mode)
