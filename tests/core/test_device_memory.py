"""Device memory that two processes share: against a driver of our own making, since a test cannot expect a GPU.

The driver is a C library with the signatures and structures of CUDA's, over shared memory of the host.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_autoresearch.core.device_memory import DeviceMemory, check_sharing
from pytest_autoresearch.referee.sandbox import find_sandbox

DRIVER = r"""
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct { int type, id; } Location;
typedef struct {
    int type, requestedHandleTypes;
    Location location;
    void *win32HandleMetaData;
    struct {
        unsigned char compressionType, gpuDirectRDMACapable;
        unsigned short usage;
        unsigned char reserved[4];
    } allocFlags;
} Prop;
typedef struct { Location location; int flags; } Access;

static int is(const char *mode) { const char *set = getenv("FAKE_DRIVER"); return set && !strcmp(set, mode); }
static const size_t GRAIN = 2 << 20;
static int ready, retained;

int cuInit(unsigned flags) { if (is("no device")) return 100; ready = 1; return flags ? 1 : 0; }
int cuDeviceGet(int *device, int ordinal) { if (!ready) return 3; *device = ordinal; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    if (attribute != 103) return 1;
    *value = !is("shares nothing");
    return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &ready; retained++; return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { return --retained < 0 ? 201 : 0; }
int cuCtxSetCurrent(void *context) { return context == &ready ? 0 : 201; }
int cuMemGetAllocationGranularity(size_t *size, const Prop *prop, int option) { *size = GRAIN; return 0; }
int cuMemCreate(uint64_t *handle, size_t size, const Prop *prop, uint64_t flags) {
    if (is("full")) return 2;
    if (size % GRAIN || flags || prop->type != 1 || prop->requestedHandleTypes != 1) return 1;
    if (prop->location.type != 1 || prop->location.id != 0 || prop->win32HandleMetaData) return 1;
    int file = memfd_create("device", 0);
    if (ftruncate(file, size)) return 999;
    *handle = 1000 + file;
    return 0;
}
int cuMemRelease(uint64_t handle) { return close(handle - 1000); }
int cuMemExportToShareableHandle(void *out, uint64_t handle, int type, uint64_t flags) {
    *(int *)out = dup(handle - 1000);
    return type == 1 && !flags ? 0 : 1;
}
int cuMemImportFromShareableHandle(uint64_t *handle, void *file, int type) {
    if (is("refuses")) return 801;
    *handle = 1000 + dup((int)(uintptr_t)file);
    return type == 1 ? 0 : 1;
}
int cuMemAddressReserve(uint64_t *address, size_t size, size_t alignment, uint64_t at, uint64_t flags) {
    *address = (uint64_t)mmap(0, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return size % GRAIN || alignment || at || flags ? 1 : 0;
}
int cuMemAddressFree(uint64_t address, size_t size) { return munmap((void *)address, size); }
int cuMemMap(uint64_t address, size_t size, size_t offset, uint64_t handle, uint64_t flags) {
    void *found = mmap((void *)address, size, PROT_NONE, MAP_SHARED | MAP_FIXED, handle - 1000, offset);
    return found == (void *)address && !flags ? 0 : 1;
}
int cuMemUnmap(uint64_t address, size_t size) {
    return mmap((void *)address, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED;
}
int cuMemSetAccess(uint64_t address, size_t size, const Access *access, size_t count) {
    if (count != 1 || access->location.type != 1 || access->location.id || access->flags != 3) return 1;
    return mprotect((void *)address, size, PROT_READ | PROT_WRITE);
}
int cuMemsetD32_v2(uint64_t address, unsigned word, size_t count) {
    if (is("writes nothing")) return 0;
    for (size_t i = 0; i < count; i++) ((unsigned *)address)[i] = word;
    return 0;
}
int cuCtxSynchronize(void) { return 0; }
int cuMemcpyDtoH_v2(void *host, uint64_t address, size_t size) { memcpy(host, (void *)address, size); return 0; }
"""

needs_driver = pytest.mark.skipif(not shutil.which("cc") or sys.platform != "linux", reason="needs a C compiler, Linux")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a library `libcuda.so.1`."""
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.c").write_text(DRIVER)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "libcuda.so.1", folder / "driver.c"], check=True)
    return folder


def python(code: str, driver: Path, mode: str = "") -> str:
    """What a process prints that finds this driver."""
    variables = os.environ | {"LD_LIBRARY_PATH": str(driver), "FAKE_DRIVER": mode}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=60)
    assert not done.returncode, done.stderr
    return done.stdout.strip()


CHECK = """
from pytest_autoresearch.core.device_memory import check_sharing
from pytest_autoresearch.referee.sandbox import find_sandbox
sandbox, why = find_sandbox({mode!r}, [])
print(repr(check_sharing(sandbox.wrap if sandbox else list)))
"""


@needs_driver
@pytest.mark.parametrize(
    "sandbox", ["off", pytest.param("bwrap", marks=pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap"))]
)
def test_what_another_process_writes_arrives_also_from_a_sandbox(driver: Path, sandbox: str) -> None:
    if sandbox == "bwrap" and not find_sandbox("auto", [])[0]:
        pytest.skip("bubblewrap does not work here")
    assert python(CHECK.format(mode=sandbox), driver) == "''"


@needs_driver
@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("no device", "cuInit says error 100"),
        ("shares nothing", "the driver shares no memory here"),
        ("refuses", "cuMemImportFromShareableHandle says error 801"),
        ("writes nothing", "data written by another process does not arrive"),
    ],
)
def test_why_nothing_can_be_shared(driver: Path, mode: str, words: str) -> None:
    assert words in python(CHECK.format(mode="off"), driver, mode)


@needs_driver
def test_no_room_is_no_refusal(driver: Path) -> None:
    assert python(CHECK.format(mode="off"), driver, "full") == "''"
    code = """
from pytest_autoresearch.core.device_memory import DeviceMemory, NoRoom
try:
    DeviceMemory(1)
except NoRoom:
    print("no room")
"""
    assert python(code, driver, "full") == "no room"


@needs_driver
def test_sizes_are_rounded_up_and_everything_is_given_back(driver: Path) -> None:
    code = """
import os
from pytest_autoresearch.core.device_memory import DeviceMemory
files = len(os.listdir("/proc/self/fd"))
for _ in range(5):
    memory = DeviceMemory((2 << 20) + 4)
    other = DeviceMemory((2 << 20) + 4, os.dup(memory.file))
    other.fill(7, ((2 << 20) + 4) // 4)
    assert memory.read((2 << 20) + 4)[-4:] == bytes([7, 0, 0, 0])
    assert memory.read(8) == other.read(8)
    other.close()
    memory.close()
maps = open("/proc/self/maps").read().count("memfd:device")
print(len(os.listdir("/proc/self/fd")) - files, maps)
"""
    assert python(code, driver) == "0 0"


def test_without_a_driver_there_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "libcuda.so.1").write_text("no library")
    assert "no driver that shares memory" in python(CHECK.format(mode="off"), tmp_path)


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    assert check_sharing() == ""
    memory = DeviceMemory(4 << 20)
    numbers = memory.tensor(1 << 20)
    numbers.copy_(torch.arange(1 << 20))
    torch.cuda.synchronize()
    other = DeviceMemory(4 << 20, os.dup(memory.file))
    assert torch.equal(other.tensor(1 << 20), numbers)
    assert numbers.is_cuda
