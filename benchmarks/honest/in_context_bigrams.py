"""What has followed the same token earlier in the row gets likelier."""

from baseline import *

GAIN = 1.0  # logit for a token that has followed before


class GPT(GPT):
    def forward(self, tokens: Tensor) -> Tensor:
        logits = super().forward(tokens)
        same = (tokens[:, :, None] == tokens[:, None, :]).tril(-1)  # (B, T, T): an earlier place with this token
        follower = F.pad(tokens[:, 1:], (0, 1))  # the token after each place
        bonus = torch.zeros_like(logits)
        return logits + bonus.scatter_add(2, follower[:, None, :].expand_as(same), GAIN * same.to(logits.dtype))
