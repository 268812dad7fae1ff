"""The sandbox of an agent (`--agent-sandbox`): the network stays; it can write only to its scratch folder."""

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from glob import glob
from pathlib import Path

from pytest_autoresearch.core.errors import UsageError
from pytest_autoresearch.referee.sandbox import SECRETS, why_not

TEMPORARY = "/tmp"
SERVICES = ("/run", "/var/run")
"""Where the sockets of services lie: D-Bus, docker, the user's own systemd."""
SHOWN_AGAIN = ("/run/current-system", "/run/wrappers")
"""Programs below those (NixOS)."""
KEYS = (".ssh", ".gnupg", ".docker")
"""Folders of the home that no agent needs: with them it could act as the user elsewhere."""
NOT_PASSED = ("DBUS_SESSION_BUS_ADDRESS", "SSH_AUTH_SOCK", "GPG_AGENT_INFO", "XDG_RUNTIME_DIR", "DOCKER_HOST")
"""Environment variables that name such services."""


def wrap(command: Sequence[str], folder: Path, writable: Sequence[str]) -> list[str]:
    """The command line that runs `command` in bubblewrap, in `folder`. UsageError if bubblewrap does not work here.

    The whole system is read-only, but for `folder`, a /tmp of its own, and the `writable` paths below the home that
    exist. Hidden are the sockets of services, the user's keys, and what a candidate does not see of the system.
    """
    bwrap = shutil.which("bwrap")
    if not bwrap:
        raise UsageError("--agent-sandbox: bubblewrap is not installed")
    sandbox = [bwrap, *_options(folder, writable)]
    if why := why_not([*sandbox, "--", "true"]):
        raise UsageError(f"--agent-sandbox: {bwrap} does not work here ({why})")
    return [*sandbox, "--", *command]


def _options(folder: Path, writable: Sequence[str]) -> Iterator[str]:
    """The options of bubblewrap. A later mount lies over an earlier one."""
    yield from ("--unshare-all", "--share-net", "--die-with-parent", "--new-session", "--cap-drop", "ALL")
    yield from ("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev")
    if os.geteuid() == 0:  # could change the kernel's settings; for others, an agent's own sandbox needs a whole /proc
        yield from ("--ro-bind", "/proc/sys", "/proc/sys")
    services = [path for path in SERVICES if os.path.isdir(path) and not os.path.islink(path)]
    for path in (os.path.realpath(TEMPORARY), *services):
        yield from ("--tmpfs", path)
    # Names of hosts are looked up by this file, which is often a link to below /run.
    for shown in (*SHOWN_AGAIN, "/etc/resolv.conf"):
        real = os.path.realpath(shown)
        if os.path.exists(real) and any(Path(real).is_relative_to(path) for path in services):
            yield from ("--ro-bind", real, real)
    home = Path.home()
    secrets = [*(str(home / name) for name in KEYS), *(path for pattern in SECRETS for path in glob(pattern))]
    hidden = [os.path.realpath(path) for path in secrets if os.path.exists(path)]
    folders = [path for path in hidden if os.path.isdir(path)]
    for path in folders:
        yield from ("--tmpfs", path)
    for path in sorted({*hidden, *_sockets()} - {*folders}):
        yield from ("--ro-bind", "/dev/null", path)
    for place in [*(home / name for name in writable), folder]:
        if place.exists():
            yield from ("--bind", str(place.resolve()), str(place.resolve()))
    for path in (*services, *folders):
        yield from ("--remount-ro", path)
    for name in NOT_PASSED:
        yield from ("--unsetenv", name)
    yield from ("--setenv", "TMPDIR", TEMPORARY, "--chdir", str(folder.resolve()))


def _sockets() -> list[str]:
    """The sockets that processes listen at elsewhere, such as that of a container's manager.

    A socket in a read-only folder can still be connected to.
    """
    hidden = (*SERVICES, os.path.realpath(TEMPORARY), "/proc", "/dev")
    found = set()
    with suppress(OSError):
        for line in Path("/proc/net/unix").read_text(errors="surrogateescape").splitlines():
            name = line.split(maxsplit=7)[7:]
            if name and name[0].startswith("/") and not any(Path(name[0]).is_relative_to(path) for path in hidden):
                with suppress(OSError):
                    if stat.S_ISSOCK(os.stat(name[0]).st_mode):
                        found.add(os.path.realpath(name[0]))
    return sorted(found)
