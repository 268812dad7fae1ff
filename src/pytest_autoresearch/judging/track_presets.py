"""Tracks for smaller GPUs: `baseline/cuda` with a depth, lengths and batches that suit a card and five minutes.

The sizes are rules of thumb, not measurements. They follow karpathy/autoresearch's README on smaller platforms and what
users reported there about cards from 4 GB on (issues #168, #299, #596). Tokens per step shrink first, because a model
needs some hundreds of optimizer steps within the budget; then depth, sequence length and vocabulary shrink together.
"""

import json
import math
from dataclasses import dataclass, replace

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.track import Track
from pytest_autoresearch.programs.splice import splice

GB = 1e9
MEMORY_SHARE = 0.8
"""The share of the card's memory for a step. The rest is for the display, fragmentation and uncounted tensors."""
BYTES_PER_CHANNEL, BYTES_PER_LOGIT = 40, 4
"""Bytes that a training step keeps per token, for each channel of each block and for each entry of the vocabulary. They
come from a trace of the program: 62 GiB saved for the backward pass at 2**18 tokens, 9 blocks of 640 channels, bf16."""
BYTES_PER_WEIGHT = 16
"""Bytes per weight: the weight, its gradient and two moments, each float32."""


@dataclass(frozen=True)
class Card:
    """A GPU to train on. `fast`: it has bfloat16 and flash attention (NVIDIA cards from compute capability 8.0)."""

    name: str
    device: str
    memory: float
    fast: bool


@dataclass(frozen=True)
class Size:
    """The size of a track. `total_batch` counts the tokens of an optimizer step, `batch_size` sequences."""

    least_memory: float
    depth: int
    sequence_length: int
    vocab_size: int
    total_batch: int
    eval_tokens: int
    batch_size: int = 0
    evaluation_batch_size: int = 0


LADDER = (
    Size(36 * GB, 9, 2048, 8192, 2**18, 20_971_520),
    Size(20 * GB, 8, 1024, 8192, 2**17, 10_485_760),
    Size(11 * GB, 6, 1024, 4096, 2**16, 5_242_880),
    Size(7 * GB, 5, 512, 4096, 2**15, 2_621_440),
    Size(0 * GB, 4, 256, 2048, 2**14, 1_310_720),
)
"""From large to small. A card gets the first size that its memory allows, or the next smaller one if it is not fast."""


def find_card() -> Card:
    """The GPU of this machine. UsageError if torch finds none."""
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Card(properties.name, "cuda", properties.total_memory, (properties.major, properties.minor) >= (8, 0))
    if torch.backends.mps.is_available():
        return Card("Apple GPU", "mps", torch.mps.recommended_max_memory(), False)
    raise UsageError("no GPU that torch can use; use the track `cpu`")


def size_for(card: Card) -> Size:
    """The size for this card, with batches that fit its memory. UsageError if not even one sequence fits."""
    rungs = [number for number, size in enumerate(LADDER) if card.memory >= size.least_memory]
    size = LADDER[min(rungs[0] + (not card.fast), len(LADDER) - 1)]
    width = math.ceil(size.depth * 57 / 128) * 128  # as the program has it
    slow = 1 if card.fast else 2  # float32 instead of bfloat16
    weights = BYTES_PER_WEIGHT * (12 * size.depth * width**2 + size.vocab_size * width * (2 + size.depth / 2))
    token = slow * (BYTES_PER_CHANNEL * size.depth * width + BYTES_PER_LOGIT * size.vocab_size)
    sequences = (MEMORY_SHARE * card.memory - weights) / (token * size.sequence_length)
    if sequences < 1:
        raise UsageError(f"{card.name}: {card.memory / GB:.1f} GB of memory is too little to train on")
    logits = 4 * size.sequence_length * size.vocab_size  # bytes of one sequence; the referee holds them twice
    return replace(
        size,
        batch_size=min(_power_of_two(sequences), size.total_batch // size.sequence_length),
        evaluation_batch_size=max(1, min(64, _power_of_two(card.memory / 16 / logits))),
    )


def _power_of_two(most: float) -> int:
    return 1 << math.floor(math.log2(max(1.0, most)))


def sized_track(model: Track, card: Card) -> tuple[dict[str, str], Size]:
    """The files of a track, by name: the track `model` sized for the card. And the size."""
    size = size_for(card)
    source = model.program_path.read_text(encoding="utf-8")
    changes = f"DEPTH = {size.depth}\nBATCH_SIZE = {size.batch_size}\nTOTAL_BATCH_SIZE = {size.total_batch}\n"
    program = splice(source, f"from baseline import *\n{changes}")
    return {"train.py": program, "track.toml": _track_toml(model, card, size)}, size


def _track_toml(model: Track, card: Card, size: Size) -> str:
    budget = model.budget
    description = json.dumps(f"{card.name}, {card.memory / GB:.0f} GB: a smaller {model.name}")
    return f'''description = {description}
device = "{card.device}"

[data]
corpus = {json.dumps(model.corpus)}
vocab_size = {size.vocab_size}
sequence_length = {size.sequence_length}
eval_tokens = {size.eval_tokens}

[budget]
train = "{budget}"
startup = "{budget.startup:g} s"
limit = "{budget.limit:g} s"

[evaluation]
batch_size = {size.evaluation_batch_size}

[verdict]
seeds = {model.seeds}
alpha = {model.alpha}
'''
