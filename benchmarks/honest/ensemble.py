"""Two models, each trained on every second batch, answer with their mean probability."""

from baseline import *


def train(run: Run) -> Callable[[Tensor], Tensor]:
    models = [GPT(run.vocab_size, run.sequence_length).to(run.device) for _ in range(2)]
    optimizers = []
    for model in models:
        init_weights(model)
        optimizers.append(make_optimizers(model))
    for number, (tokens, targets) in enumerate(run.batches(BATCH_SIZE)):
        loss = loss_function(models[number % 2](tokens), targets)
        loss.backward()
        for optimizer in optimizers[number % 2]:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        run.log(loss)
    return lambda tokens: torch.stack([model(tokens).log_softmax(-1) for model in models]).logsumexp(0)
