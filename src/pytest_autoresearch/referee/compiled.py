"""Compiled code that outlives a run: kept per track and program, made by a rehearsal, copied into each run.

Nothing else goes from one run to the next, so nothing learned from the track's text must be in it: a rehearsal trains
for a few steps on random tokens, and what real runs compile or write is thrown away. It begins with the baseline's, so
that a program that differs from it in a learning rate compiles nothing.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_autoresearch.core.files import copy_tree, remove_tree
from pytest_autoresearch.core.track import digest

KEPT_PROGRAMS = 20


def environment(folder: Path) -> dict[str, str]:
    """The variables that have torch and CUDA keep compiled code in a folder."""
    return {
        "TORCHINDUCTOR_CACHE_DIR": str(folder),
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "CUDA_CACHE_PATH": str(folder / "cuda"),
    }


def let_attention_be_cached() -> None:
    """Have torch keep compiled graphs in which `sdpa_kernel` chooses a kernel, or FlexAttention goes backward.

    AOTAutograd passes its cache by where it meets them (pytorch issue 194007; FlexAttention until torch 2.10). What
    they choose is in the graph, and so in the cache's key; the order of kernels that they begin with is added to it.
    """
    import torch
    import torch._inductor.config as inductor

    cacheable = getattr(inductor, "unsafe_marked_cacheable_functions", {})
    state = f"{torch.__version__} {getattr(torch._C, '_get_sdp_priority_order', list)()}"
    for name in (
        "nn.attention._sdpa_kernel",
        "nn.attention._backend_from_string",
        "ops.higher_order.flex_attention_backward",
    ):
        cacheable[f"torch.{name}"] = state


@dataclass(frozen=True)
class CompiledCode:
    """Compiled code of one track on one platform: a folder for each program, named by its hash."""

    folder: Path
    baseline_sha: str

    @classmethod
    def of(cls, cache: Path, fingerprint: dict[str, str], baseline_sha: str) -> "CompiledCode":
        return cls(cache / "compiled" / digest(fingerprint), baseline_sha)

    def find(self, program_sha: str) -> Path | None:
        """The folder of a program, if it has been rehearsed here."""
        path = self.folder / program_sha[:16]
        if not path.is_dir():
            return None
        with suppress(OSError):
            os.utime(path)  # used lately
        return path

    def keep(self, made: Path, program_sha: str) -> Path:
        """Take over what a rehearsal has made. The programs that were used longest ago go. OSError: nothing is kept."""
        path = self.folder / program_sha[:16]
        building = path.with_suffix(".building")
        remove_tree(building)
        try:
            copy_tree(made, building)
            remove_tree(path)
            building.rename(path)
        except OSError:
            remove_tree(building)
            raise
        baseline = self.baseline_sha[:16]
        others = [other for other in self.folder.iterdir() if other.name not in (path.name, baseline)]
        for old in sorted(others, key=lambda other: other.stat().st_mtime)[: -KEPT_PROGRAMS or None]:
            remove_tree(old)
        return path
