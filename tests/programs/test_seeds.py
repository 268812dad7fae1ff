"""Programs that choose their own random numbers."""

import pytest

from pytest_autoresearch.programs.seeds import find_fixed_seed


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("torch.manual_seed(42)", (1, "torch.manual_seed(42)")),
        ("SEED = 7\nnp.random.seed(SEED)", (2, "np.random.seed(SEED)")),
        ("x = np.random.default_rng()", (1, "np.random.default_rng()")),
        ("g = torch.Generator().manual_seed(1 + 2)", (1, "torch.Generator().manual_seed(1 + 2)")),
        ("self.seed(1337)", (1, "self.seed(1337)")),
        ("self.rng.seed()", (1, "self.rng.seed()")),
        ("torch.seed()", (1, "torch.seed()")),
        ("def f():\n    g(torch.manual_seed(1))\nrandom.seed(\n  2)", (2, "torch.manual_seed(1)")),
        ("random.seed(\n  '\x1b[2J')", (1, r"random.seed( '\x1b[2J')")),
        (f"torch.manual_seed({'1+' * 60}1)", (1, f"torch.manual_seed({'1+' * 30}1…")),
        ("torch.manual_seed(run.seed + 1)", None),
        ("g.manual_seed(seed)", None),
        ("x = torch.rand(3)", None),
        ("class A:\n    def seed(self):\n        return 3\n    def f(self):\n        return self.seed()", None),
    ],
)
def test_a_seed_of_its_own_is_found(source: str, found: tuple[int, str] | None) -> None:
    assert find_fixed_seed(source) == found
