"""Programs that choose their own random numbers."""

import pytest

from pytest_autoresearch.programs.seeds import find_fixed_seed


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("torch.manual_seed(42)", "torch.manual_seed(42)"),
        ("SEED = 7\nnp.random.seed(SEED)", "np.random.seed(SEED)"),
        ("x = np.random.default_rng()", "np.random.default_rng()"),
        ("g = torch.Generator().manual_seed(1 + 2)", "torch.Generator().manual_seed(1 + 2)"),
        ("torch.manual_seed(run.seed + 1)", ""),
        ("g.manual_seed(seed)", ""),
        ("x = torch.rand(3)", ""),
    ],
)
def test_a_seed_of_its_own_is_found(line: str, found: str) -> None:
    assert find_fixed_seed(line) == found
