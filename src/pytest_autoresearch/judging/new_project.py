"""Begin a project in a folder: a track, an experiment, pages for agents, settings. What is there is left as it is."""

from dataclasses import dataclass
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.text import counted, read_source
from pytest_autoresearch.core.track import Track, read_track, track_names
from pytest_autoresearch.judging.new_files import NewFiles, new_files
from pytest_autoresearch.judging.project import Project, find_project, read_settings
from pytest_autoresearch.judging.shipped import shipped_text, shipped_track
from pytest_autoresearch.judging.track_presets import GB, Card, Size, sized_track
from pytest_autoresearch.judging.workflow import workflow

EXPERIMENT = "rmsnorm"
IDEAS = """\
# Ideas

One idea to a line. `autoresearch loop` shows its agents what is open, and they tick off what they have written.
Add and remove lines at any time.

- [ ] squared ReLU instead of GELU
- [ ] half the batch: twice the steps in the same budget
- [ ] rotary positions instead of learned ones
"""
SETTINGS = """\
[pytest]
# `pytest experiments` judges experiments. `pytest` alone does, too, unless testpaths names other folders.
{testpaths}
"""
FOR_AGENTS = "Before you write or judge experiments, read program.md."
AGENTS_BYTES = 1 << 20


@dataclass(frozen=True)
class CardTrack:
    """A track that was written for a card."""

    folder: Path
    card: Card
    size: Size


@dataclass(frozen=True)
class Beginning:
    """What `begin` has done. `tracks` are the project's; `is_new`: it had none before. `notes` are for the user."""

    project: Project
    files: NewFiles
    is_new: bool
    tracks: list[str]
    card_track: CardTrack | None
    notes: list[str]


def project_to_begin(start: Path) -> tuple[Project, dict[str, str]]:
    """The project that `start` belongs to if that has a track; else `start` itself becomes one. With its settings."""
    try:
        project, settings = find_project(start)
        if track_names(project.baseline):
            return project, settings
    except UsageError:
        pass
    settings = read_settings(start) or {}
    experiments = start / settings.get("autoresearch_experiments", "experiments")
    return Project(start, experiments, start / settings.get("autoresearch_baseline", "baseline")), settings


def begin(project: Project, card: Card | None = None, name: str = "", ci: bool = False) -> Beginning:
    """Write what the project lacks; with a card also a track for it, called `name`. UsageError if that cannot be done.

    Tracks and the experiment are for a project without a track. The `track.toml` of `cpu` comes after what belongs to
    it, because it makes the folder a project: after a kill before that, the same call writes what is missing.
    """
    is_new = not track_names(project.baseline)
    notes = notes_before(project) if is_new else []
    card_track = None
    with new_files() as files:
        for page in ("program.md", "AGENTS.md"):
            files.add(project.root / page, shipped_text(page))
        files.add(project.root / "ideas.md", IDEAS)
        if read_settings(project.root) is None:
            files.add(project.root / "pytest.ini", settings_text(project.root))
        if is_new:
            files.add(project.experiments / f"{EXPERIMENT}.py", shipped_text(f"experiments/{EXPERIMENT}.py"))
            for part in ("train.py", "track.toml"):
                files.add(project.baseline / "cpu" / part, shipped_text(f"baseline/cpu/{part}"))
            if card:
                card_track = write_track(files, project, card, name)
        if ci:
            files.add(*workflow(project))
        files.add_lines(project.root / ".gitignore", lines_to_ignore(project))
    notes += notes_after(project, files)
    return Beginning(project, files, is_new, track_names(project.baseline), card_track, notes)


def add_track(project: Project, card: Card, name: str = "") -> CardTrack:
    """Write a track for the card into a project with tracks. UsageError if the name is not free."""
    with new_files() as files:
        track = write_track(files, project, card, name)
        if files.left:
            raise UsageError(f"{track.folder}: already exists; choose another name")
    return track


def write_track(files: NewFiles, project: Project, card: Card, name: str) -> CardTrack:
    """Add the files of a track for the card: the track `cuda`, the project's own if it has one, with other sizes."""
    name = name or f"cuda-{card.memory / GB:.0f}gb"
    if name != Path(name).name or name.startswith("."):
        raise UsageError(f"--track {name}: must be the name of a folder in {project.baseline}")
    folder = project.baseline / name
    texts, size = sized_track(cuda_track(project), card)
    for part, text in texts.items():
        files.add(folder / part, text)
    return CardTrack(folder, card, size)


def cuda_track(project: Project) -> Track:
    """The project's track `cuda`, or else the shipped one."""
    own = project.baseline / "cuda"
    return read_track(own) if own.exists() else shipped_track("cuda")


def settings_text(root: Path) -> str:
    """A pytest.ini. The project's tests, if it has a folder of them, stay what `pytest` alone runs."""
    tests = next((name for name in ("tests", "test") if (root / name).is_dir()), None)
    return SETTINGS.format(testpaths=f"testpaths = {tests}" if tests else "# testpaths = tests")


def lines_to_ignore(project: Project) -> list[str]:
    """The lines of .gitignore for what runs write."""
    lines = ["# written by runs", "/results.tsv", "/results/"]
    if project.baseline.is_relative_to(project.root):
        tracks = project.baseline.relative_to(project.root).as_posix()
        lines += [f"/{tracks}/*/.lock", f"/{tracks}/*/promotion.json"]
    return lines


def notes_before(project: Project) -> list[str]:
    """What the user should know of a folder that becomes a project."""
    notes = []
    if others := [path for path in project.experiments.rglob("*.py") if path.stem != EXPERIMENT]:
        folder = project.experiments.name
        notes.append(
            f"{folder}/ has {counted(len(others), 'Python file')} already: each counts as an experiment; "
            "for another folder, set autoresearch_experiments in pytest's settings"
        )
    if (project.root / "results").exists():
        notes.append("results/ is there already: runs write into it, and .gitignore hides new files in it from git")
    settings = read_settings(project.root)
    if settings is not None and not settings.get("testpaths"):
        notes.append("`pytest` alone will judge experiments, too; set testpaths in pytest's settings to prevent that")
    return notes


def notes_after(project: Project, files: NewFiles) -> list[str]:
    """What the user has to add to files that were left as they are."""
    notes = []
    agents, ignored = project.root / "AGENTS.md", project.root / ".gitignore"
    if agents in files.left and not mentions_program(agents):
        notes.append(f"add this line to AGENTS.md: {FOR_AGENTS}")
    if ignored in files.left and (ignored.is_symlink() or not ignored.is_file()):
        notes.append(f"have git ignore: {' '.join(lines_to_ignore(project)[1:])}")
    return notes


def mentions_program(path: Path) -> bool:
    """Whether a page names program.md."""
    try:
        return "program.md" in read_source(path, AGENTS_BYTES)
    except UsageError:
        return False
