"""Hub: corpora that lie as parquet shards on the Hugging Face hub, fetched once into the cache."""

import io
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.core.files import write_atomically
from pytest_autoresearch.data.cache import Progress, cache_folder, locked, sha256_of
from pytest_autoresearch.data.corpus import Corpus, open_parquet

if TYPE_CHECKING:  # slow to import, and not needed once everything is there
    from huggingface_hub import HfApi

# Dataset, file names and the pinned held-out shard as in karpathy/autoresearch, prepare.py.
CLIMBMIX = "karpathy/climbmix-400b-shuffle"
CLIMBMIX_HELD_OUT = 6542
DEFAULT_SHARDS = 10  # to train on
AT_ONCE = 8  # shards

_NAME = re.compile(r"hf:(\w[\w.-]*(?:/\w[\w.-]*)?)((?:/(?!\.\.?(?:/|$))[^/\\]+)*)/?", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """One parquet file of a dataset: its path there, bytes, and the sha256 (hex) of what the hub keeps in LFS."""

    path: str
    size: int
    sha256: str | None


@dataclass(frozen=True)
class Manifest:
    """What a corpus of the hub consists of, fixed when it is first fetched. `revision` is a commit of the dataset."""

    dataset: str
    folder: str
    revision: str
    training: tuple[Shard, ...]
    held_out: Shard | None

    @property
    def shards(self) -> list[Shard]:
        return [*self.training, *([self.held_out] if self.held_out else [])]


def open_hub_corpus(name: str, shards: int | None, progress: Progress) -> Corpus:
    """The corpus "hf:<dataset>[/folder]" or "climbmix"; what the cache lacks of it is fetched.

    Of the dataset's parquet files (those under `folder`, if one is named) in order of their paths the last is held out
    and the first `shards` train; a single file is split as a path would be. "climbmix" is a dataset whose held-out
    file is pinned. `shards` is remembered; None means as before, and at first 10 or all that there are. Nobody is
    asked where all files are there. UsageError says in one line what is missing and what to do about it.
    """
    dataset, subfolder = _parse(name)
    if shards is not None and shards < 1:
        raise UsageError(f"--shards {shards}: must be at least 1")
    folder, manifest = _stored(dataset, subfolder)
    if not manifest or (shards or len(manifest.training)) != len(manifest.training) or _missing(manifest, folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / ".lock", progress, "fetches this corpus"):
                manifest = _bring(name, dataset, subfolder, shards, folder, progress)
        except OSError as error:
            raise UsageError(f"{folder}: the cache cannot be written: {error.strerror or error}") from None
    files = tuple(folder / shard.path for shard in manifest.shards)
    return Corpus(name, folder, files, files[-1] if manifest.held_out else None)


def is_fetched(name: str) -> bool:
    """Whether all of a hub corpus is in the cache; asks nobody."""
    folder, manifest = _stored(*_parse(name))
    return manifest is not None and not _missing(manifest, folder)


def _parse(name: str) -> tuple[str, str]:
    """(dataset, folder in it or "")."""
    if name == "climbmix":
        return CLIMBMIX, ""
    if not (parts := _NAME.fullmatch(name)) or "--" in parts[1]:
        raise UsageError(f"corpus '{name}': must be hf:<organisation>/<dataset>, or that and /<folder>")
    return parts[1], parts[2].strip("/")


# -- what is in the cache ----------------------------------------------------------------------------------------------


def _stored(dataset: str, subfolder: str) -> tuple[Path, Manifest | None]:
    """A corpus's folder in the cache, and its manifest if there is one."""
    # A dataset's name never holds "--", so no two corpora share a folder.
    slug = "--".join(quote(part, safe="") for part in [*dataset.split("/"), subfolder] if part)
    folder = cache_folder() / "hub" / slug
    return folder, _read(folder, dataset, subfolder)


def _read(folder: Path, dataset: str, subfolder: str) -> Manifest | None:
    """The manifest; None where there is none that can be used."""
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        stored = json.loads((folder / "manifest.json").read_bytes())
        training = tuple(Shard(**shard) for shard in stored.pop("training"))
        held_out = stored.pop("held_out")
        manifest = Manifest(training=training, held_out=Shard(**held_out) if held_out else None, **stored)
        if (manifest.dataset, manifest.folder) == (dataset, subfolder) and training:
            return manifest
    return None


def _write(manifest: Manifest, folder: Path) -> None:
    write_atomically(folder / "manifest.json", json.dumps(asdict(manifest), indent=1))


def _missing(manifest: Manifest, folder: Path) -> list[Shard]:
    return [shard for shard in manifest.shards if _size(folder / shard.path) != shard.size]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


# -- what is on the hub ------------------------------------------------------------------------------------------------


def _bring(name: str, dataset: str, subfolder: str, shards: int | None, folder: Path, progress: Progress) -> Manifest:
    """Complete a corpus, with its lock held. OSError when the cache cannot be written."""
    known = _read(folder, dataset, subfolder)  # another process may have written it while this one waited
    manifest = known
    if not known or (shards or 0) > len(known.training):
        manifest = _choose(name, dataset, subfolder, shards, known)
    elif shards:
        manifest = replace(known, training=known.training[:shards])
    assert manifest
    # A file that no manifest spoke for may be of another revision, whatever its size.
    for shard in set(manifest.shards) - set(known.shards if known else ()):
        path = folder / shard.path
        if path.exists() and (not shard.sha256 or sha256_of(path) != shard.sha256):
            path.unlink()
    if manifest != known:
        _write(manifest, folder)
    if missing := _missing(manifest, folder):
        _fetch(name, manifest, missing, folder, progress)
    return manifest


def _choose(name: str, dataset: str, subfolder: str, shards: int | None, known: Manifest | None) -> Manifest:
    """Ask the hub what there is; at the revision that is known, if one is."""
    pinned = (dataset, subfolder) == (CLIMBMIX, "")
    if pinned:
        _check_number(name, shards, CLIMBMIX_HELD_OUT)
    with _asking(f"corpus '{name}'"):
        from huggingface_hub import HfApi

        hub = HfApi()
        revision = str(known.revision if known else hub.dataset_info(dataset, expand=["sha"], timeout=30).sha)
        if pinned:
            found = _climbmix(hub, name, revision, shards or DEFAULT_SHARDS)
        else:
            found = _all_shards(hub, dataset, subfolder, revision)
    if not found:
        raise UsageError(f"corpus '{name}': there is no .parquet file in it, and no other can be read")
    for shard in found:
        if shard.path.startswith("/") or ".." in shard.path.split("/") or {"\\", ":"} & set(shard.path):
            raise UsageError(f"corpus '{name}': {shard.path!r}: a file of this name is not fetched")
    training, held_out = (found[:-1], found[-1]) if len(found) > 1 else (found, None)
    _check_number(name, shards, len(training))
    return Manifest(dataset, subfolder, revision, tuple(training[: shards or DEFAULT_SHARDS]), held_out)


def _check_number(name: str, shards: int | None, there: int) -> None:
    if (shards or 0) > there:
        raise UsageError(
            f"corpus '{name}': --shards {shards}: there {'is' if there == 1 else 'are'} {there} to train on"
        )


def _climbmix(hub: "HfApi", name: str, revision: str, shards: int) -> list[Shard]:
    """`shards` training shards and the held-out one."""
    paths = [f"shard_{number:05}.parquet" for number in [*range(shards), CLIMBMIX_HELD_OUT]]
    parts = [paths[start : start + 500] for start in range(0, len(paths), 500)]
    found = [_shard(e) for p in parts for e in hub.get_paths_info(CLIMBMIX, p, revision=revision, repo_type="dataset")]
    if lacking := sorted(set(paths) - {shard.path for shard in found}):
        raise UsageError(f"corpus '{name}': dataset {CLIMBMIX} has no {lacking[0]}")
    return sorted(found, key=lambda shard: shard.path)


def _all_shards(hub: "HfApi", dataset: str, subfolder: str, revision: str) -> list[Shard]:
    """All parquet files, in order of their paths."""
    from huggingface_hub.hf_api import RepoFile

    entries = hub.list_repo_tree(dataset, subfolder or None, recursive=True, revision=revision, repo_type="dataset")
    found = [_shard(e) for e in entries if isinstance(e, RepoFile) and e.path.lower().endswith(".parquet")]
    return sorted(found, key=lambda shard: shard.path)


def _shard(entry: Any) -> Shard:
    return Shard(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else None)


def _fetch(name: str, manifest: Manifest, missing: list[Shard], folder: Path, progress: Progress) -> None:
    """Download shards, several at once; what was begun earlier is gone on with."""
    with _asking(f"corpus '{name}'"):
        from huggingface_hub import close_session
        from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

        disable_progress_bars()
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # warnings would break into the progress line
    stage = f"fetching {len(missing)} of {len(manifest.shards)} shards of {name}"
    total = sum(shard.size for shard in missing)
    stop, share = Event(), 0.0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = {pool.submit(_download, name, manifest, shard, folder, stop) for shard in missing}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=0.1, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                here = sum(_size(folder / s.path) or _size(_part(manifest, s, folder)) or 0 for s in missing)
                share = max(share, min(0.999, here / (total or 1)))
                progress(stage, share)
        except BaseException:  # Ctrl-C, too, must not wait for shards to be complete
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            close_session()
            raise
    progress(stage, 1.0)


def _part(manifest: Manifest, shard: Shard, folder: Path) -> Path:
    """Where a shard lies until it is complete."""
    path = folder / shard.path
    return path.with_name(f".{path.name}.{manifest.revision[:12]}.part")


class _Part(io.BufferedWriter):
    """A file to append to, of which nothing stays in memory; OSError when `stop` is set."""

    def __init__(self, path: Path, stop: Event) -> None:
        super().__init__(io.FileIO(path, "ab"))
        self._stop = stop

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # what typeshed allows here is any buffer
        if self._stop.is_set():
            raise OSError("stopped")
        count = super().write(data)
        self.flush()
        return count


def _download(name: str, manifest: Manifest, shard: Shard, folder: Path, stop: Event) -> None:
    """Fetch one shard and put it in its place once its size, its sha256 and its column `text` are right.

    By what `hf_hub_download` is made of, for that begins again at the first byte when the process was killed.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    what, part = f"corpus '{name}': {shard.path}", _part(manifest, shard, folder)
    part.parent.mkdir(parents=True, exist_ok=True)
    url = hf_hub_url(manifest.dataset, shard.path, repo_type="dataset", revision=manifest.revision)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}  # a compressed answer cannot be resumed
    failures = 0
    while (have := _size(part) or 0) < shard.size:
        with _asking(what):
            try:
                with _Part(part, stop) as file:
                    http_get(url, file, resume_size=have, headers=headers)
                break
            except Exception as error:
                failures = 1 if (_size(part) or 0) > have else failures + 1
                if stop.is_set() or failures > 1 or not _may_pass(error):
                    raise
        time.sleep(1)
    if (got := _size(part) or 0) != shard.size:
        part.unlink(missing_ok=True)
        raise UsageError(f"{what}: came with {got} bytes, and must have {shard.size}; deleted: start again")
    if shard.sha256 and sha256_of(part) != shard.sha256:
        part.unlink()
        raise UsageError(f"{what}: came with another content than the hub says (sha256); deleted: start again")
    try:
        with open_parquet(part):
            pass
    except UsageError as error:
        raise UsageError(f"{what}: {str(error).removeprefix(f'{part}: ')}") from None
    os.replace(part, folder / shard.path)


# -- what goes wrong there ---------------------------------------------------------------------------------------------


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Around calls of huggingface_hub: whatever goes wrong there is a UsageError, but for what the disk says."""
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        raise UsageError(f"{what}: needs huggingface_hub: pip install 'pytest-autoresearch[hub]'") from None
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # what its transport raises (httpx, requests, …) is another with each version
        if _of_the_disk(error):
            raise
        raise UsageError(f"{what}: {_reason(error)}") from None


def _of_the_disk(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno is not None


def _may_pass(error: Exception) -> bool:
    """Whether to try again what huggingface_hub itself gives up at once: a reset connection, a hub that restarts."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code >= 500
    return not isinstance(error, OSError)  # those are of the disk, or say HF_HUB_OFFLINE


def _reason(error: Exception) -> str:
    from huggingface_hub import constants, errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return "is not all in the cache, and HF_HUB_OFFLINE forbids to fetch it; unset that once"
    if not isinstance(error, errors.HfHubHTTPError):
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        return f"no connection to {constants.ENDPOINT}, or a broken one: {said}; what came is kept: start again"
    status = error.response.status_code
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return f"access denied ({status}): accept its terms on the hub, and set HF_TOKEN"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the hub no longer has the commit that was fetched first; delete its folder in {cache_folder() / 'hub'}"
    if isinstance(error, errors.RepositoryNotFoundError) or status == 401:
        return f"no such dataset at {constants.ENDPOINT} ({status}); if it is private, set HF_TOKEN"
    if status == 404:
        return f"not found in the dataset ({status})"
    if status == 429:
        return f"the hub has had too many requests ({status}); try again later, or set HF_TOKEN for a higher limit"
    return f"the hub answers {status}; try again later"
