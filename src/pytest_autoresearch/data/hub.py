"""Hub: corpora that lie as parquet files ("shards") on the Hugging Face hub.

The shards lie in huggingface_hub's own cache, which other tools share (see `download`). Our cache holds a manifest for
each corpus: the commit of the dataset, the shards to train on, and the held-out shard.
"""

import json
import os
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import quote

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.files import write_atomically
from pytest_autoresearch.data.cache import cache_folder, locked
from pytest_autoresearch.data.corpus import Corpus
from pytest_autoresearch.data.download import fetch, find_commit, is_whole, list_parquet
from pytest_autoresearch.data.progress import Progress

# Dataset, file names and the held-out shard are those of karpathy/autoresearch, prepare.py.
CLIMBMIX = "karpathy/climbmix-400b-shuffle"
CLIMBMIX_SHARDS = [f"shard_{number:05}.parquet" for number in range(6543)]  # the last one is held out
DEFAULT_SHARDS = 10  # to train on

_NAME = re.compile(r"hf:(\w[\w.-]*(?:/\w[\w.-]*)?)((?:/(?!\.\.?(?:/|$))[^/\\]+)*)/?", re.ASCII)


@dataclass(frozen=True)
class Manifest:
    """The shards of a corpus, as paths in the dataset. Once written, only the number of training shards changes.

    `revision` is a commit of the dataset. `snapshot` is that commit's folder in huggingface_hub's cache; it is empty
    until all shards have been fetched.
    """

    dataset: str
    folder: str
    revision: str
    training: list[str]
    held_out: str | None
    snapshot: str = ""

    @property
    def shards(self) -> list[str]:
        return [*self.training, *([self.held_out] if self.held_out else [])]

    @property
    def is_complete(self) -> bool:
        """Whether all shards are on this machine."""
        return bool(self.snapshot) and all(is_whole(Path(self.snapshot, shard)) for shard in self.shards)


def open_hub_corpus(name: str, shards: int | None, progress: Progress) -> Corpus:
    """The corpus "hf:<dataset>[/folder]" or "climbmix". Fetches missing shards; a complete corpus needs no network.

    The parquet files of the dataset, or of the folder, are sorted by path: the last is held out, the first `shards`
    train. A single file is split by its documents. "climbmix" always holds out the same file. The number of shards is
    remembered; None means the remembered number, and at first 10 or all. UsageError says in one line what is missing
    and what to do.
    """
    if shards is not None and shards < 1:
        raise UsageError(f"--shards {shards}: must be at least 1")
    folder = _manifest_folder(*_parse(name))
    manifest = _read(name)
    if not manifest or shards not in (None, len(manifest.training)) or not manifest.is_complete:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / ".lock", progress, "fetches this corpus"):
                manifest = _complete(name, shards, progress)
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(f"{error.filename or folder}: the cache cannot be written: {reason}") from None
    files = tuple(Path(manifest.snapshot, shard) for shard in manifest.shards)
    return Corpus(name, Path(manifest.snapshot), files, files[-1:] if manifest.held_out else ())


def is_fetched(name: str) -> bool:
    """Whether all shards of a hub corpus are on this machine. Uses no network."""
    manifest = _read(name)
    return manifest is not None and manifest.is_complete


def hub_folders() -> list[Path]:
    """Where huggingface_hub keeps its caches and the user's token, without importing it."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    caches = [os.environ.get(name) for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_XET_CACHE")]
    return [Path(os.path.expandvars(os.path.expanduser(path))).absolute() for path in [home, *caches] if path]


def _parse(name: str) -> tuple[str, str]:
    """(dataset, folder in it or "")."""
    if name == "climbmix":
        return CLIMBMIX, ""
    if not (parts := _NAME.fullmatch(name)) or "--" in parts[1]:
        raise UsageError(f"corpus '{name}': must be hf:<organisation>/<dataset>, or that and /<folder>")
    return parts[1], parts[2].strip("/")


def _manifest_folder(dataset: str, subfolder: str) -> Path:
    # The name of a dataset never contains "--", so no two corpora share a folder.
    slug = "--".join(quote(part, safe="") for part in [*dataset.split("/"), subfolder] if part)
    return cache_folder() / "hub" / slug


def _read(name: str) -> Manifest | None:
    """The stored manifest; None if there is none, or it is damaged."""
    dataset, subfolder = _parse(name)
    with suppress(OSError, ValueError, TypeError):
        manifest = Manifest(**json.loads((_manifest_folder(dataset, subfolder) / "manifest.json").read_bytes()))
        of_this = (manifest.dataset, manifest.folder) == (dataset, subfolder)
        if of_this and manifest.training and all(isinstance(shard, str) for shard in manifest.shards):
            return manifest
    return None


def _write(manifest: Manifest) -> None:
    path = _manifest_folder(manifest.dataset, manifest.folder) / "manifest.json"
    write_atomically(path, json.dumps(asdict(manifest), indent=1))


def _complete(name: str, shards: int | None, progress: Progress) -> Manifest:
    """Choose and fetch what a corpus lacks. The caller holds its lock. OSError when a cache cannot be written."""
    known = _read(name)  # again: another process may have written it meanwhile
    if not known or (shards or 0) > len(known.training):
        manifest = _choose(name, shards, known)
    else:
        manifest = replace(known, training=known.training[:shards])
    if manifest != known:
        _write(manifest)  # before the download: if that is killed, the next one takes the same commit and number
    if not manifest.is_complete:
        snapshot = fetch(name, manifest.dataset, manifest.revision, manifest.shards, progress)
        manifest = replace(manifest, snapshot=str(snapshot))
        _write(manifest)
    return manifest


def _choose(name: str, shards: int | None, known: Manifest | None) -> Manifest:
    """List the shards on the hub, at the known commit or else at the newest one."""
    dataset, subfolder = _parse(name)
    revision = known.revision if known else find_commit(name, dataset)
    pinned = (dataset, subfolder) == (CLIMBMIX, "")
    found = CLIMBMIX_SHARDS if pinned else list_parquet(name, dataset, subfolder, revision)
    training, held_out = (found[:-1], found[-1]) if len(found) > 1 else (found, None)
    available = len(training)
    if (shards or 0) > available:
        are = "is" if available == 1 else "are"
        raise UsageError(f"corpus '{name}': --shards {shards}: there {are} {available} to train on")
    return Manifest(dataset, subfolder, revision, training[: shards or DEFAULT_SHARDS], held_out)
