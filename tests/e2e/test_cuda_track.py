"""The cuda track's program, at toy size on a CPU: each of its parts against what its paper says, written plainly."""

import gc
import json
import math
import shutil
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from direct_run import direct_run
from tiny_project import TinyProject
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

from pytest_autoresearch.core import protocol
from pytest_autoresearch.core.track import read_track
from pytest_autoresearch.programs.experiment import read_experiment
from pytest_autoresearch.programs.search_space import has_search_space
from pytest_autoresearch.programs.seeds import find_fixed_seed
from pytest_autoresearch.programs.splice import splice

ROOT = Path(__file__).parents[2]
BASELINE = (ROOT / "baseline/cuda/train.py").read_text(encoding="utf-8")
EXPERIMENTS = [read_experiment(path, path.parent) for path in sorted((ROOT / "experiments").glob("[!_]*.py"))]
TOY = """
from baseline import *

DEPTH = 3
HEAD_DIM = 8
ASPECT_RATIO = 5
WINDOW_PATTERN = "SL"
SHORT_WINDOW = 1 / 4
GATE_CHANNELS = 4
BATCH_SIZE = 8
TOTAL_BATCH_SIZE = 128
"""
VOCAB, LENGTH = 64, 16
CPU = torch.device("cpu")
ROWS = (np.random.default_rng(0).integers(0, VOCAB, (64, 1)) * 5 ** np.arange(LENGTH + 1) % VOCAB).astype(np.uint16)
"""Each token tells the next one, so that a few steps are enough to learn something."""


def load(*overlays: str, toy: bool = True) -> Any:
    """The program, at toy size unless told otherwise, with overlays on top, as a module."""
    source = BASELINE
    for overlay in (TOY,) * toy + overlays:
        source = splice(source, overlay)
    program = types.ModuleType("program")
    exec(compile(source, "program.py", "exec"), program.__dict__)
    return program


def train(
    program: Any, steps: int, rows: np.ndarray = ROWS, device: str = "cpu", vocab_size: int = VOCAB
) -> tuple[Any, list[float]]:
    """What its `train` returns, and the losses that it logged."""
    losses = []

    def send(message: protocol.Message) -> None:
        if isinstance(message, protocol.Logged):
            losses.append(message.loss)

    run = direct_run(rows, f"{steps} steps", vocab_size=vocab_size, device=device, send=send)
    torch.manual_seed(0)
    return program.train(run), losses


@pytest.fixture(scope="module")
def program() -> Any:
    return load()


@pytest.fixture(scope="module")
def trained(program: Any) -> tuple[Any, list[float]]:
    return train(program, steps=40)


@pytest.fixture(autouse=True)
def _alike_everywhere() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more of them only wait for each other at these sizes
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


# -- the whole --


def test_the_track_is_the_one_that_others_have_numbers_for() -> None:
    track = read_track(ROOT / "baseline/cuda")
    assert (track.corpus, track.vocab_size, track.sequence_length) == ("climbmix", 8192, 2048)
    assert track.eval_tokens == 40 * 524_288
    assert (track.budget.amount, track.budget.unit, track.budget.startup) == (300, "s", 120)
    assert track.eval_tokens % (track.batch_size * track.sequence_length) == 0  # all requests are whole batches


def test_it_keeps_the_rules_that_experiments_keep(tmp_path: Path) -> None:
    copy = shutil.copy(ROOT / "baseline/cuda/train.py", tmp_path / "whole.py")
    assert not read_experiment(Path(copy), tmp_path).is_overlay
    assert find_fixed_seed(BASELINE) is None


def test_one_dial_sets_the_size() -> None:
    programs = {depth: load(f"from baseline import *\nDEPTH = {depth}\n", toy=False) for depth in (8, 9, 10, 20)}
    sizes = {depth: (program.WIDTH, program.HEADS) for depth, program in programs.items()}
    assert sizes == {8: (512, 4), 9: (640, 5), 10: (640, 5), 20: (1152, 9)}


def test_it_learns(trained: tuple[Any, list[float]]) -> None:
    _, losses = trained
    assert losses[0] == pytest.approx(math.log(VOCAB), abs=0.01)  # it knows nothing, and says so
    assert np.mean(losses[-5:]) < losses[0] - 0.5
    assert len(losses) == 40


def test_logits_depend_on_nothing_that_comes_later(trained: tuple[Any, list[float]], program: Any) -> None:
    check(trained[0])
    with torch.no_grad():
        assert trained[0](torch.zeros((3, LENGTH), dtype=torch.int64)).abs().max() < program.SOFTCAP


def check(model: Any) -> None:
    tokens = torch.randint(VOCAB, (2, LENGTH))
    changed = tokens.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % VOCAB
    with torch.no_grad():
        logits, after = model(tokens), model(changed)
    assert logits.shape == (2, LENGTH, VOCAB)
    assert logits.isfinite().all()
    assert torch.allclose(logits[:, :9], after[:, :9], atol=1e-5)
    assert not torch.allclose(logits[:, 9:], after[:, 9:], atol=1e-5)


def test_it_trains_in_the_harness(project: TinyProject) -> None:
    (project.path / "baseline/cpu/train.py").write_text(splice(BASELINE, TOY))
    project.experiment("frozen", "MATRIX_LR = EMBEDDING_LR = HEAD_LR = RESIDUAL_LR = X0_LR = 0.0")
    project.run("--ar-seeds=1")
    baseline, frozen = project.rows
    assert (frozen["verdict"], frozen["runs"]) == ("discarded", "1")
    assert float(baseline["val_bpb"]) < float(frozen["val_bpb"]) - 0.1
    evidence = next(project.path.glob("results/cpu/baseline*/seed-0/result.json"))
    curve = [loss for loss in json.loads(evidence.read_text())["curve"] if loss is not None]
    assert len(curve) == 12
    assert curve[-1] < curve[0] - 0.5


# -- the model --


def heads(count: int, length: int = LENGTH) -> Tensor:
    return torch.randn(2, length, count, 8)


def test_a_window_limits_what_is_seen(program: Any) -> None:
    q, k, v = heads(2), heads(2), heads(2)
    mask = program.sliding_window(4, LENGTH, CPU)
    before = program.attention(q, k, v, mask)
    v[:, 5] += 1
    moved = (program.attention(q, k, v, mask) - before).abs().amax((0, 2, 3)) > 1e-6
    assert moved.nonzero().flatten().tolist() == [5, 6, 7, 8]


def test_windows_are_short_and_long_in_turn_and_the_last_is_long(program: Any) -> None:
    masks = program.GPT(VOCAB, LENGTH, CPU).masks
    assert [mask is None for mask in masks] == [False, True, True]
    assert masks[0].sum(1).tolist() == [1, 2, 3] + [4] * 13


def test_attention_is_the_formula(program: Any) -> None:
    q, k, v = heads(2), heads(2), heads(2)
    scores = torch.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(8)
    scores = scores.masked_fill(~torch.ones(LENGTH, LENGTH).tril().bool(), -math.inf)
    expected = torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), v)
    assert torch.allclose(program.attention(q, k, v, None), expected, atol=1e-5)


@pytest.mark.parametrize("window", [4, None])
def test_grouped_heads_are_heads_repeated(program: Any, window: int | None) -> None:
    q, k, v = heads(4), heads(2), heads(2)
    mask = window and program.sliding_window(window, LENGTH, CPU)
    repeated = (x.repeat_interleave(2, dim=2) for x in (k, v))
    assert torch.allclose(program.attention(q, k, v, mask), program.attention(q, *repeated, mask), atol=1e-5)


def test_fewer_key_value_heads_train() -> None:
    check(train(load("from baseline import *\nKV_HEADS = 1\n"), steps=2)[0])


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_sees_the_same(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = heads(4), heads(2), heads(2)
    mask = program.sliding_window(5, LENGTH, CPU)
    monkeypatch.setattr(program, "is_fast", lambda device: True)
    blocks = program.sliding_window(5, LENGTH, CPU)
    assert isinstance(blocks, program.BlockMask)
    assert torch.allclose(program.attention(q, k, v, blocks), program.attention(q, k, v, mask), atol=1e-5)


def test_flex_attention_skips_blocks_outside_the_window(program: Any) -> None:
    """2048 tokens in blocks of 128: a window of 256 touches three blocks a row, of which one is whole."""

    def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (query - key < 256)

    blocks = create_block_mask(visible, None, None, 2048, 2048, device="cpu")
    assert blocks.kv_num_blocks.max() == 2
    assert blocks.full_kv_num_blocks.max() == 1


def test_rotary_positions_are_relative(program: Any) -> None:
    cos, sin = program.rotary_table(LENGTH, CPU)
    q, k = (torch.randn(8).expand(1, LENGTH, 1, 8) for _ in range(2))
    turned_q, turned_k = (program.rotate(x, cos, sin)[0, :, 0] for x in (q, k))
    scores = turned_q @ turned_k.T  # (T, T)
    for distance in range(-5, 6):
        assert scores.diagonal(distance).std() < 1e-5
    assert scores[0].std() > 0.1
    assert torch.allclose(turned_q.norm(dim=-1), q[0, :, 0].norm(dim=-1))


def test_value_embeddings_stand_in_every_other_block_and_the_last(program: Any) -> None:
    model = program.GPT(VOCAB, LENGTH, CPU)
    program.init_weights(model)
    assert [block.attention.value_embedding is not None for block in model.blocks] == [True, False, True]
    embedding, tokens = model.blocks[0].attention.value_embedding, torch.randint(VOCAB, (2, LENGTH))
    added = embedding(torch.randn(2, LENGTH, program.WIDTH), tokens)
    assert torch.equal(added.flatten(2), embedding.table(tokens))  # the gate is half open: 2 × sigmoid(0)


def test_the_first_answer_is_that_all_tokens_are_alike(program: Any) -> None:
    model = program.GPT(VOCAB, LENGTH, CPU)
    program.init_weights(model)
    tokens = torch.randint(VOCAB, (2, LENGTH))
    with torch.no_grad():
        assert torch.allclose(model.trunk(tokens), program.norm(model.embed(tokens)), atol=1e-3)
        assert model(tokens).abs().max() < 0.1
    spread = model.blocks[0].mlp.up.weight.std().item()
    assert spread == pytest.approx(program.INIT_SCALE / math.sqrt(program.WIDTH), rel=0.1)


# -- Muon --

SHAPES = [(32, 32), (64, 16), (16, 64)]


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonalized_matrices_have_singular_values_near_one(program: Any, shape: tuple[int, int]) -> None:
    """Between 0.8 and 1.2, for singular values that are no smaller than a hundredth of the largest."""
    u, _, v = torch.linalg.svd(torch.randn(5, *shape), full_matrices=False)
    x = u @ torch.diag_embed(torch.logspace(-2, 0, 16 if 16 in shape else 32).expand(5, -1)) @ v
    found = program.orthogonalize(1e-4 * x)  # gradients are small
    values = torch.linalg.svdvals(found)
    assert (values - 1).abs().max() < 0.2
    assert torch.allclose(found, u @ v, atol=0.2)
    assert torch.allclose(values.square().sum(-1), torch.tensor(float(min(shape))), rtol=1e-4)  # Muon+


def test_no_gradient_is_no_update(program: Any) -> None:
    assert torch.equal(program.orthogonalize(program.equilibrate(torch.zeros(2, 8, 4))), torch.zeros(2, 8, 4))


def test_equilibrated_rows_are_equally_long(program: Any) -> None:
    x = torch.randn(3, 8, 5) * torch.logspace(-6, 0, 8)[:, None]
    found = program.equilibrate(x)
    assert torch.allclose(found.norm(dim=-1), torch.ones(3, 8))
    assert torch.allclose(F.cosine_similarity(found, x, dim=-1), torch.ones(3, 8))


@pytest.mark.parametrize("shape", SHAPES)
def test_variance_is_reduced_and_the_norm_kept(program: Any, shape: tuple[int, int]) -> None:
    rows, columns = shape
    neurons = (rows, 1) if rows >= columns else (1, columns)
    x = torch.randn(3, *shape) * torch.rand(3, *neurons)
    found = program.reduce_variance(x, torch.zeros(3, *neurons))
    assert torch.allclose(found.norm(dim=(-2, -1)), x.norm(dim=(-2, -1)))
    lengths = found.norm(dim=-1 if rows >= columns else -2)
    assert torch.allclose(lengths, lengths.mean(-1, keepdim=True).expand_as(lengths), rtol=1e-3)


def plain_muon(
    weights: Tensor, gradients: list[Tensor], lr: float, momentum: float, decay: float, beta: float
) -> Tensor:
    """One matrix, several steps, as the papers write them."""
    coefficients = [
        (8.156554524902461, -22.48329292557795, 15.878769915207462),
        (4.042929935166739, -2.808917465908714, 0.5000178451051316),
        (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
        (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
        (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
    ]
    rows, columns = weights.shape
    axis = 1 if rows >= columns else 0
    average, squares = torch.zeros_like(weights), torch.tensor(0.0)
    for gradient in gradients:
        average = momentum * average + (1 - momentum) * gradient
        x = momentum * average + (1 - momentum) * gradient  # Nesterov
        x = torch.stack([row / row.norm() for row in x])  # MuonEq-R
        x = x / (1.02 * x.norm())
        for a, b, c in coefficients:  # Polar Express
            x = a * x + b * (x @ x.T @ x) + c * (x @ x.T @ x @ x.T @ x)
        x = x * math.sqrt(min(rows, columns)) / x.norm()  # Muon+
        squares = beta * squares + (1 - beta) * x.square().mean(axis, keepdim=True)  # NorMuon
        scaled = x / squares.sqrt()
        x = scaled * x.norm() / scaled.norm()
        x = x + decay * torch.where(x * weights > 0, weights, 0.0)  # cautious
        weights = weights - lr * math.sqrt(max(1.0, rows / columns)) * x
    return weights


def test_a_stack_steps_as_its_matrices_do_one_by_one(program: Any) -> None:
    matrices = [torch.nn.Parameter(torch.randn(shape)) for shape in (*SHAPES, *SHAPES, (5, 3))]
    start = [matrix.detach().clone() for matrix in matrices]
    gradients = [[torch.randn_like(matrix) for matrix in matrices] for _ in range(3)]
    muon = program.Muon(matrices, lr=0.1, momentum=0.9, weight_decay=0.3)
    for step in gradients:
        for matrix, gradient in zip(matrices, step, strict=True):
            matrix.grad = gradient
        muon.step()
    assert len(muon.param_groups) == 4
    for number, matrix in enumerate(matrices):
        own = [step[number] for step in gradients]
        expected = plain_muon(start[number], own, 0.1, 0.9, 0.3, program.NEURON_BETA)
        # Where an update is nearly zero, rounding decides whether the weight decays.
        assert (matrix - expected).abs().quantile(0.99) < 1e-3, matrix.shape


def test_weight_decay_is_cautious(program: Any) -> None:
    """It shrinks a weight where the update does, too, and leaves it alone elsewhere."""

    def step(decay: float) -> Tensor:
        changed = weights.clone()
        state = torch.zeros(1, 6, 4), torch.zeros(1, 6, 1)
        program.muon_update(changed, gradient.clone(), *state, *torch.tensor([0.1, 0.9, decay]))
        return changed

    weights, gradient = torch.randn(1, 6, 4), torch.randn(1, 6, 4)
    without = step(0.0)
    shrinking = (weights - without) * weights > 0
    assert 0 < shrinking.sum() < 24
    factor = 0.1 * math.sqrt(6 / 4)
    assert torch.allclose(without - step(0.5), torch.where(shrinking, 0.5 * factor * weights, 0.0), atol=1e-6)


# -- the loop --


def test_each_parameter_has_one_optimizer(program: Any) -> None:
    model = program.GPT(VOCAB, LENGTH, CPU)
    optimizers = program.make_optimizers(model)
    given = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert len(given) == len(set(given))
    assert set(given) == set(model.parameters())
    names = {parameter: name for name, parameter in model.named_parameters()}
    muon = {names[p].split(".", 2)[2] for group in optimizers[1].param_groups for p in group["params"]}
    parts = {"attention.q", "attention.k", "attention.v", "attention.out", "mlp.up", "mlp.out"}
    assert muon == {f"{part}.weight" for part in parts | {"attention.value_embedding.gate"}}


def test_schedules_at_their_corners(program: Any) -> None:
    assert [program.schedule(p) for p in (0.0, 0.25, 1.0)] == pytest.approx([1.0, 1.0, program.FINAL_LR])
    assert program.schedule(0.625) == pytest.approx((1 + program.FINAL_LR) / 2)
    assert [program.momentum_schedule(step, 0.0) for step in (0, 100, 200, 999)] == pytest.approx(
        [0.85, 0.9, 0.95, 0.95]
    )
    assert [program.weight_decay_schedule(p) for p in (0.0, 0.75, 1.0)] == [1.0, 0.25, 0.0]


def test_rates_follow_the_schedules(program: Any) -> None:
    optimizers = program.make_optimizers(program.GPT(VOCAB, LENGTH, CPU))
    program.set_rates(optimizers, 0, 1.0)
    program.set_rates(optimizers, 500, 1.0)  # from the peak again, not from what was set before
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            assert group["lr"] == pytest.approx(program.FINAL_LR * group["peak_lr"])
    assert {(group["momentum"], group["weight_decay"]) for group in optimizers[1].param_groups} == {(0.95, 0.0)}


STEADY = """
from baseline import *

def schedule(progress):
    return 1.0

def weight_decay_schedule(progress):
    return 1.0
"""


def test_micro_batches_add_up_to_the_large_batch() -> None:
    tokens = torch.randint(VOCAB, (4, LENGTH))
    large, large_losses = train(load(STEADY), steps=2)
    small, small_losses = train(load(STEADY, "from baseline import *\nBATCH_SIZE = 2\n"), steps=8)
    assert small_losses == pytest.approx(large_losses, abs=1e-4)
    with torch.no_grad():  # updates are normalized, and rounding errors with them
        assert (small(tokens) - large(tokens)).abs().mean() < 0.02


def test_gradients_that_were_summed_up_are_averaged(program: Any) -> None:
    weights = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([weights], lr=1.0)
    weights.grad = torch.tensor([4.0, 8.0, -4.0])
    program.optimizer_step([optimizer], 4)
    assert weights.tolist() == [-1.0, -2.0, 1.0]
    assert weights.grad is None


def test_a_step_that_the_budget_cuts_short_is_taken_with_what_there_is() -> None:
    """As large as the others: the mean over its micro-batches, not their share of a whole step."""
    tokens = torch.randint(VOCAB, (4, LENGTH))
    half = load(STEADY, "from baseline import *\nBATCH_SIZE = 4\nTOTAL_BATCH_SIZE = 128\n")
    quarter = load(STEADY, "from baseline import *\nBATCH_SIZE = 4\nTOTAL_BATCH_SIZE = 256\n")
    whole, losses = train(half, steps=2)
    cut, cut_losses = train(quarter, steps=2)  # of 4 micro-batches
    assert cut_losses == pytest.approx(losses)
    with torch.no_grad():
        assert torch.allclose(whole(tokens), cut(tokens), atol=1e-5)


def test_the_garbage_collector_works_again_afterwards(trained: Any) -> None:
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


# -- experiments --


OVERLAYS = [e for e in EXPERIMENTS if e.track in (None, "cuda") and not has_search_space(e.source)]


@pytest.mark.parametrize("experiment", OVERLAYS, ids=lambda e: e.name)
def test_an_experiment_trains_on_this_baseline(experiment: Any) -> None:
    experiment.program(BASELINE, "train.py")  # no name is unknown
    model, losses = train(load(experiment.source), steps=10)
    check(model)
    assert losses[-1] < losses[0] - 0.2


def test_there_are_ideas_for_this_track_and_each_says_where_it_comes_from() -> None:
    ours = [experiment for experiment in EXPERIMENTS if experiment.track == "cuda"]
    assert len(ours) >= 6
    for experiment in ours:
        assert experiment.description != experiment.name
        assert any(source in experiment.source for source in ("arXiv", "PR #", "nanochat (")), experiment.name


# -- with a GPU --

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("window", [256, None])
def test_compiled_attention_is_what_it_is_on_a_cpu(window: int | None) -> None:
    program, device = load(toy=False), torch.device("cuda")
    q, k, v = (torch.randn(2, 2048, 5, 128, device=device, dtype=torch.bfloat16) for _ in range(3))
    mask, plain_mask = (window and program.sliding_window(window, 2048, where) for where in (device, CPU))
    found = torch.compile(program.attention, dynamic=False)(q, k, v, mask)
    expected = program.attention(*(x.float().cpu() for x in (q, k, v)), plain_mask)
    assert torch.allclose(found.float().cpu(), expected, atol=0.03)


@pytest.mark.gpu
@needs_cuda
def test_the_compiled_program_learns_as_the_plain_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small but for its heads and rows: bfloat16 and fused kernels against float32 and none."""
    small = "from baseline import *\nDEPTH = 2\nBATCH_SIZE = 8\nTOTAL_BATCH_SIZE = 2**14\n"
    rows = np.random.default_rng(0).integers(0, 512, (64, 2049), dtype=np.uint16)
    losses = {}
    for disabled in ("0", "1"):
        monkeypatch.setenv("TORCH_COMPILE_DISABLE", disabled)
        model, losses[disabled] = train(load(small, toy=False), 12, rows, "cuda", vocab_size=512)
        with torch.no_grad():
            assert model(torch.zeros((4, 2048), dtype=torch.int64, device="cuda")).shape == (4, 2048, 512)
    assert losses["0"] == pytest.approx(losses["1"], abs=0.1)
