"""A track for the card that is there: `baseline/cuda` made smaller, until five minutes on it teach a model something.

Rules of thumb, not measurements: karpathy/autoresearch's README on smaller platforms, and what users reported there of
cards from 4 GB on (issues #168, #299, #596): fewer tokens in a step before a smaller model, since some hundreds of
optimizer steps have to fit into the budget; then depth, sequence length and vocabulary together.
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.track import Track
from pytest_autoresearch.programs.splice import splice

GB = 1e9
MEMORY_SHARE = 0.8
"""Of the card's memory, that a step may take: the display, fragments and what is not counted here want the rest."""
BYTES_PER_CHANNEL, BYTES_PER_LOGIT = 40, 4
"""Of memory in a step, for each token: of each block's channels, and of each kind of token. From a trace of the
program that kept no tensors: 62 GiB saved for the way back at 2**18 tokens, 9 blocks of 640 channels, bfloat16."""
BYTES_PER_WEIGHT = 16
"""Weight, gradient and two moments, float32."""


@dataclass(frozen=True)
class Card:
    """A device to train on. `fast`: it has bfloat16 and flash attention (NVIDIA's from compute capability 8.0)."""

    name: str
    device: str
    memory: float
    fast: bool


@dataclass(frozen=True)
class Size:
    """What a card can do in five minutes. Batches: `total_batch` in tokens of a step, `batch_size` in sequences."""

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
"""From the top: the first that the card's memory allows. A card that is not fast stands one rung lower."""


def find_card() -> Card:
    """The card of this machine. UsageError where there is none."""
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Card(properties.name, "cuda", properties.total_memory, (properties.major, properties.minor) >= (8, 0))
    if torch.backends.mps.is_available():
        return Card("Apple GPU", "mps", torch.mps.recommended_max_memory(), False)
    raise UsageError("no GPU that torch can use; on a CPU the track `cpu` is for you")


def size_for(card: Card) -> Size:
    """The largest rung of the ladder for this card, and batches that its memory holds."""
    rungs = [number for number, size in enumerate(LADDER) if card.memory >= size.least_memory]
    size = LADDER[min(rungs[0] + (not card.fast), len(LADDER) - 1)]
    width = math.ceil(size.depth * 57 / 128) * 128  # as the program has it
    slow = 1 if card.fast else 2  # float32 instead of bfloat16
    weights = BYTES_PER_WEIGHT * (12 * size.depth * width**2 + size.vocab_size * width * (2 + size.depth / 2))
    token = slow * (BYTES_PER_CHANNEL * size.depth * width + BYTES_PER_LOGIT * size.vocab_size)
    sequences = (MEMORY_SHARE * card.memory - weights) / (token * size.sequence_length)
    if sequences < 1:
        raise UsageError(f"{card.name}: {card.memory / GB:.1f} GB of memory are too few to train on")
    logits = 4 * size.sequence_length * size.vocab_size  # of one sequence, which a referee holds twice
    return replace(
        size,
        batch_size=min(_power_of_two(sequences), size.total_batch // size.sequence_length),
        evaluation_batch_size=max(1, min(64, _power_of_two(card.memory / 16 / logits))),
    )


def _power_of_two(most: float) -> int:
    return 1 << math.floor(math.log2(max(1.0, most)))


def write_track(model: Track, name: str, card: Card) -> tuple[Path, Size]:
    """Write `baseline/<name>/`, a track made of another for the card. UsageError where that is not possible."""
    if name != Path(name).name or name.startswith("."):
        raise UsageError(f"--track {name}: must be the name of a folder in {model.folder.parent}")
    folder, size = model.folder.with_name(name), size_for(card)
    source = model.program_path.read_text(encoding="utf-8")
    changes = f"DEPTH = {size.depth}\nBATCH_SIZE = {size.batch_size}\nTOTAL_BATCH_SIZE = {size.total_batch}\n"
    try:
        folder.mkdir()
        (folder / "train.py").write_text(splice(source, f"from baseline import *\n{changes}"), encoding="utf-8")
        (folder / "track.toml").write_text(_track_toml(model, card, size), encoding="utf-8")
    except FileExistsError:
        raise UsageError(f"{folder}: is there already; choose another name") from None
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror}") from None
    return folder, size


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
