"""Muon for the matrices of the blocks, AdamW for the rest.

Jordan et al., kellerjordan.github.io/posts/muon; scaled to AdamW's learning rate as in Liu et al., arXiv 2502.16982.
"""

from baseline import *

TRACK = "cpu"


def make_optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    hidden = [p for p in model.blocks.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p not in set(hidden)]
    return [
        torch.optim.Muon(hidden, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=LEARNING_RATE, betas=BETAS, weight_decay=0.0, fused=True),
    ]
