"""The model as it is served: what answers may take, and where the logits come through."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_project import TinyProject

from pytest_autoresearch.core.device_memory import NoRoom, Refused
from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.exchange import Exchange
from pytest_autoresearch.core.records import Outcome
from pytest_autoresearch.referee import local, model_client
from pytest_autoresearch.referee.executor import JobSpec, RunResult
from pytest_autoresearch.referee.failures import Failed, oom_hint
from pytest_autoresearch.referee.local import LocalExecutor
from pytest_autoresearch.referee.model_client import Served

Execute = Callable[..., RunResult]


def test_the_ledger_names_what_is_between(project: TinyProject) -> None:
    project.experiment("faster", "LEARNING_RATE = 2e-3")
    project.run("--ar-sandbox", "off", "--ar-seeds", "1")
    assert {row["isolation"] for row in project.rows} == {"process"}


# -- the exchange --


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_logits_lie_in_their_own_type_where_that_is_no_larger(dtype: torch.dtype) -> None:
    shape = 2, 3, 5
    tokens, logits = Exchange.sizes(*shape)
    memory: Any = bytearray(tokens + logits)
    here, there = Exchange(memory, None, *shape), Exchange(memory, None, *shape)
    here.tokens.copy_(torch.arange(6).view(2, 3))
    assert there.tokens.tolist() == [[0, 1, 2], [3, 4, 5]]
    answer = torch.randn(shape).to(dtype)
    name = there.answer(answer)
    assert name == str(dtype if dtype.itemsize <= 4 else torch.float32).removeprefix("torch.")
    assert torch.equal(here.logits(name), answer.to(here.logits(name).dtype))
    assert here.tokens.tolist() == [[0, 1, 2], [3, 4, 5]]  # nothing has run over


# -- what answers may take --


def checked(device: str, seconds: list[float], flop: int = 5) -> str:
    """What is said of answers that took so long, and the last of them so many flop, the others 5."""
    track = SimpleNamespace(device=device, budget=SimpleNamespace(unit="s"))
    candidate = SimpleNamespace(look=lambda: SimpleNamespace(cpu=0.0))
    job: Any = SimpleNamespace(track=track)
    served = Served(job, candidate, 0, free_seconds=20.0)  # type: ignore[arg-type]
    served._seconds, served._flops = seconds, [5] * (len(seconds) - 1) + [flop]
    try:
        served._check_answers()
    except Failed as failed:
        return str(failed)
    return ""


def test_answers_that_take_long_are_training() -> None:
    assert checked("cpu", [0.1] * 9) == ""
    words = "1.2 CPU seconds in answers beyond 4 times the usual one, which takes 0.1: its budget was over"
    assert checked("cpu", [0.1] * 4 + [1.6] + [0.1] * 4) == words
    assert checked("cpu", [0.1] * 4 + [1.0] * 2 + [0.1] * 4) == words  # together they take as much
    assert checked("cpu", [0.1] * 4 + [1.6] + [0.1] * 4, flop=5).startswith("1.2 CPU")
    assert checked("cpu", [0.1] * 9, flop=8).startswith("8 flop for one answer, 5 for the usual")


def test_on_a_gpu_a_busy_host_may_let_a_few_answers_wait() -> None:
    assert checked("cuda", [0.1] * 4 + [1.6] * 2 + [0.1] * 4) == ""
    assert checked("cuda", [0.1] * 4 + [1.6] * 3 + [0.1] * 4).startswith("3.6 seconds in answers")


def test_the_first_answer_may_compile_for_what_is_left_of_the_startup() -> None:
    assert checked("cuda", [23.0] + [0.1] * 8) == ""
    assert checked("cuda", [24.0] + [0.1] * 8).startswith("3.6 seconds in answers")


# -- out of memory --


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("for x in run.batches(DEVICE_BATCH): pass", "lower DEVICE_BATCH or the model"),
        ("for x in run.batches(min(BATCH, 3), LENGTH): pass", "lower BATCH or the model"),
        ("for x in run.batches(batch_size=BATCH): pass", "lower BATCH or the model"),
        ("TOTAL_BATCH_SIZE = 8\nfor x in run.batches(size): pass", "lower TOTAL_BATCH_SIZE or the model"),
        ("for x in run.batches(8): pass", "lower the batch size or the model"),
        ("pass", "lower the batch size or the model"),
    ],
)
def test_what_to_lower_is_named(source: str, words: str) -> None:
    assert oom_hint(source) == words


def test_out_of_memory_names_the_constant(project: TinyProject) -> None:
    project.experiment("huge", "def make_model(vocab_size):\n    return torch.empty(1 << 50)")
    result = project.run("--ar-seeds", "1")
    result.stdout.fnmatch_lines(["*OUT OF MEMORY*lower BATCH_SIZE or the model*"])


def test_a_scoring_batch_that_has_no_room_names_the_track(
    spec: JobSpec, execute: Execute, gpu: pytest.MonkeyPatch
) -> None:
    gpu.setattr(model_client, "DeviceMemory", raises(NoRoom()))
    result = execute()
    assert result.failure == Outcome.OUT_OF_MEMORY
    assert f"lower evaluation.batch_size (16) in {spec.track.folder / 'track.toml'}" in result.reason


def test_memory_that_cannot_be_shared_after_all_is_nobodys_fault(execute: Execute, gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(model_client, "DeviceMemory", raises(Refused("cuMemCreate says error 801")))
    with pytest.raises(UsageError, match="the device's memory cannot be shared: cuMemCreate says error 801"):
        execute()


def raises(error: Exception) -> Callable[[int], None]:
    def memory(size: int) -> None:
        raise error

    return memory


@pytest.fixture
def gpu(executor: LocalExecutor, spec: JobSpec, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As if there were a GPU whose memory can be shared."""
    monkeypatch.setattr(local, "check_sharing", lambda wrap: "")
    found = replace(executor._look_around("off", "cpu", spec.track.corpus), shares_device=True)
    monkeypatch.setattr(executor, "_surroundings", lambda *key: found)
    return monkeypatch


def test_where_the_referee_has_no_gpu_it_scores_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU that serves one process only; but where it has too little memory, that is said."""

    def refuse(error: Exception) -> Callable[..., None]:
        def zeros(*arguments: object, **options: object) -> None:
            raise error

        return zeros

    for error in (AssertionError("not compiled with CUDA"), RuntimeError("all devices are busy")):
        monkeypatch.setattr(torch, "zeros", refuse(error))
        assert model_client._scoring_device("cuda").type == "cpu"
    monkeypatch.setattr(torch, "zeros", refuse(torch.OutOfMemoryError()))
    with pytest.raises(torch.OutOfMemoryError):
        model_client._scoring_device("cuda")
    assert model_client._scoring_device("mps").type == "cpu"
