"""Download: the requests to huggingface_hub, and its errors in one line each.

The library has its own cache and settings (HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE). It moves a file into its
cache only when it is whole: it checks the size, and over Xet the hashes of the content, too.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.data.cache import cache_folder
from pytest_autoresearch.data.corpus import open_parquet
from pytest_autoresearch.data.progress import Progress

AT_ONCE = 8  # downloads


def find_commit(name: str, dataset: str) -> str:
    """The newest commit of a dataset. Here and below, `name` is the corpus, for error messages."""
    with _asking(f"corpus '{name}'"):
        from huggingface_hub import HfApi

        return str(HfApi().dataset_info(dataset, expand=["sha"], timeout=30).sha)


def list_parquet(name: str, dataset: str, folder: str, commit: str) -> list[str]:
    """The paths of all parquet files in a folder of a dataset ("" is all of it), sorted. UsageError if it has none."""
    with _asking(f"corpus '{name}'"):
        from huggingface_hub.hf_api import HfApi, RepoFile

        tree = HfApi().list_repo_tree(dataset, folder or None, recursive=True, revision=commit, repo_type="dataset")
        found = sorted(e.path for e in tree if isinstance(e, RepoFile) and e.path.lower().endswith(".parquet"))
    if not found:
        raise UsageError(f"corpus '{name}': it has no .parquet file, the only kind that can be read")
    for path in found:
        if path.startswith("/") or ".." in path.split("/") or {"\\", ":"} & set(path):
            raise UsageError(f"corpus '{name}': {path!r}: a file with this name is not fetched")
    return found


def is_whole(path: Path) -> bool:
    """Whether a parquet file exists and ends with the bytes "PAR1", so that it was not cut short."""
    try:
        with path.open("rb") as file:
            file.seek(-4, os.SEEK_END)
            return file.read() == b"PAR1"
    except OSError:
        return False


def fetch(name: str, dataset: str, commit: str, shards: Sequence[str], progress: Progress) -> Path:
    """Fetch the shards that are not in huggingface_hub's cache, and return the folder there that holds them all.

    An error or Ctrl-C stops the downloads under way: whole shards are kept, parts of a shard are not.
    """
    with _asking(f"corpus '{name}'"):
        from huggingface_hub import close_session

        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its warnings would break the progress bar
    todo, results, stop = iter(list(shards)), SimpleQueue[Path | BaseException](), Event()
    shares, share = dict.fromkeys(shards, 0.0), 0.0

    def work() -> None:
        for shard in todo:  # they share the iterator, so each shard goes to one of them
            try:
                snapshot = _download(name, dataset, commit, shard, _bar_class(shard, shares, stop))
                shares[shard] = 1.0
                results.put(snapshot)
            except BaseException as error:
                results.put(error)
            if stop.is_set():
                return

    # Daemon threads: unlike those of a pool they cannot keep the process from ending.
    threads = [Thread(target=work, daemon=True) for _ in range(AT_ONCE)]
    stage, left = f"fetching {len(shards)} shards of {name}", len(shards)
    try:
        for thread in threads:
            thread.start()
        while left:
            try:
                result = results.get(timeout=0.1)
                if isinstance(result, BaseException):
                    raise result
                snapshot, left = result, left - 1
            except Empty:
                pass
            share = max(share, min(0.999, sum(shares.values()) / len(shards)))  # a repeated download begins again
            progress(stage, share)
    except BaseException:
        stop.set()
        close_session()  # breaks the connections, so that the threads delete what they have begun
        for thread in threads:
            thread.join(0.1)
        raise
    progress(stage, 1.0)
    return snapshot


def _download(name: str, dataset: str, commit: str, shard: str, bar_class: type) -> Path:
    """Fetch one shard into huggingface_hub's cache, unless it is there. Returns the folder that its path starts from.

    UsageError if it cannot be fetched, is no parquet file or has no column `text`.
    """
    from huggingface_hub import hf_hub_download

    download = partial(hf_hub_download, dataset, shard, repo_type="dataset", revision=commit, tqdm_class=bar_class)
    with _asking(f"corpus '{name}': {shard}"):
        path = Path(download())
        if not is_whole(path):  # a file in the cache was cut short later
            path.unlink()
            path = Path(download(force_download=True))
    with open_parquet(path):
        return path.parents[len(PurePosixPath(shard).parts) - 1]


def _bar_class(shard: str, shares: dict[str, float], stop: Event) -> type:
    """A class of progress bars for huggingface_hub. They draw nothing and set `shares[shard]`, 0 to 1."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *_: Any, total: float | None = None, initial: float = 0, **__: Any) -> None:
            super().__init__(disable=True, total=total, initial=initial)

        def update(self, n: float | None = 1) -> None:
            if stop.is_set():
                raise RuntimeError("stopped")
            self.n += n or 0
            if self.total:
                shares[shard] = self.n / self.total

    return Bar


# -- errors ------------------------------------------------------------------------------------------------------------


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Turn every error of huggingface_hub into a UsageError, except errors of the disk, which have an errno."""
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        raise UsageError(f"{what}: needs huggingface_hub: pip install 'pytest-autoresearch[hub]'") from None
    try:
        yield
    except Exception as error:  # the types depend on the library's transport, which differs between versions
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UsageError(f"{what}: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    """One line about an error of huggingface_hub: what went wrong, and what to do about it."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__:  # "... and it is not in the cache"
        return _reason(error.__cause__)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "is not completely in the cache, and HF_HUB_OFFLINE forbids the download; unset it once"
    if not isinstance(error, errors.HfHubHTTPError):
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        return f"the download from {constants.ENDPOINT} failed: {said}; whole shards are kept: start again"
    status = error.response.status_code
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the hub no longer has the commit that was fetched first; delete its folder in {cache_folder() / 'hub'}"
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return f"access denied ({status}): accept its terms on the hub, and set HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError) or status == 401:
        return f"no such dataset at {constants.ENDPOINT} ({status}); if it is private, set HF_TOKEN"
    reasons = {
        404: "not found in the dataset (404)",
        429: "too many requests to the hub (429); try again later, or set HF_TOKEN for a higher limit",
    }
    return reasons.get(status, f"the hub answers {status}; try again later")
