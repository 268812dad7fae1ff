"""Build step: the package carries copies of what `autoresearch init` writes, so the repository needs no second copy.

All else is in pyproject.toml. An editable install copies nothing: `judging/shipped.py` finds the originals.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = (
    *(f"baseline/{track}/{name}" for track in ("cpu", "cuda") for name in ("track.toml", "train.py")),
    "experiments/rmsnorm.py",
    "program.md",
    "AGENTS.md",
)


class BuildPackage(build_py):
    """Copies what is shipped into `pytest_autoresearch/shipped/` of the build folder."""

    def run(self) -> None:
        super().run()
        for name, copy in self.copies().items():
            self.mkpath(str(Path(copy).parent))
            self.copy_file(name, copy, preserve_mode=False)

    def copies(self) -> dict[str, str]:
        """Copy in the build folder, by original."""
        folder = Path(self.build_lib, "pytest_autoresearch", "shipped")
        return {} if self.editable_mode else {name: str(folder / name) for name in SHIPPED}

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *self.copies().values()]

    def get_source_files(self) -> list[str]:
        """With these, a source distribution carries the originals."""
        return [*super().get_source_files(), *SHIPPED]


setup(cmdclass={"build_py": BuildPackage})
