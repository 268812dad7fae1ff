"""Find programs that choose their own random numbers."""

import ast

from pytest_autoresearch.programs.statements import parse, unix

SEEDERS = frozenset(
    {"manual_seed", "manual_seed_all", "seed", "default_rng", "RandomState", "Random", "PCG64", "Philox", "MT19937"}
)
"""Functions and classes of torch, NumPy and the standard library that seed random numbers."""


def find_fixed_seed(source: str) -> str:
    """The first call in a program that seeds random numbers from constants or without arguments; "" if there is none.

    A program that chooses its seed can choose the one that scores best. Raises the errors of `parse`.
    """
    source = unix(source)
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.Call):
            function = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
            arguments = [part for argument in (*node.args, *node.keywords) for part in ast.walk(argument)]
            names = [part.id for part in arguments if isinstance(part, ast.Name)]
            if function in SEEDERS and all(name.isupper() for name in names):
                return " ".join((ast.get_source_segment(source, node) or "").split())
    return ""
