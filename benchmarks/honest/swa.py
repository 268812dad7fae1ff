"""The mean of the weights over the last quarter of the budget (stochastic weight averaging)."""

from baseline import *
from torch.optim.swa_utils import AveragedModel


class Averaging:
    """A run that averages the weights of a model after each batch."""

    def __init__(self, run: Run) -> None:
        self.run, self.model, self.average = run, None, None

    def __getattr__(self, name: str) -> object:
        return getattr(self.run, name)

    def log(self, loss: Tensor) -> None:
        self.run.log(loss)
        if self.run.progress > 0.75:
            self.average = self.average or AveragedModel(self.model)
            self.average.update_parameters(self.model)


train_model, make_model = train, GPT


def train(run: Run) -> Callable[[Tensor], Tensor]:
    averaging = Averaging(run)

    def GPT(*arguments: int) -> nn.Module:
        averaging.model = make_model(*arguments)
        return averaging.model

    globals()["GPT"] = GPT
    train_model(averaging)
    return averaging.average
