"""RMSNorm instead of LayerNorm: no mean, no bias.

Zhang and Sennrich, arXiv 1910.07467.
"""

from baseline import *

TRACK = "cpu"

Norm = nn.RMSNorm
