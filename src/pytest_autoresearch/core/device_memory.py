"""Memory on a GPU that two processes share: one allocates it, the other opens it by a file descriptor.

This is CUDA's virtual memory management (CUDA driver API, "Virtual Memory Management": cuMemCreate and
cuMemExportToShareableHandle). torch.multiprocessing uses older handles (cuIpcGetMemHandle), which do not pass into a
sandbox with its own processes and network; a descriptor can be sent there through a socket. A descriptor also names
exactly one allocation; an older handle may name a part of torch's pool that holds other tensors, too. Only `tensor`
needs torch.
"""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from ctypes import c_int, c_size_t, c_ubyte, c_uint64, c_ushort, c_void_p
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # sharing is checked without importing torch
    from torch import Tensor

PINNED = DEVICE = POSIX_FILE = 1  # CU_MEM_ALLOCATION_TYPE_…, CU_MEM_LOCATION_TYPE_…, CU_MEM_HANDLE_TYPE_…
READ_WRITE = 3  # CU_MEM_ACCESS_FLAGS_PROT_READWRITE
HANDLE_TYPE_POSIX_FILE_SUPPORTED = 103  # CU_DEVICE_ATTRIBUTE_…
OUT_OF_MEMORY = 2  # CUDA_ERROR_…
TRIED = 1 << 20  # bytes that `check_sharing` shares


class Refused(Exception):
    """The driver cannot share memory; the message says why."""


class NoRoom(Exception):
    """The device does not have that much memory left."""


class _Location(ctypes.Structure):
    _fields_ = (("type", c_int), ("id", c_int))


class _Flags(ctypes.Structure):
    _fields_ = (("compression", c_ubyte), ("rdma", c_ubyte), ("usage", c_ushort), ("reserved", c_ubyte * 4))


class _Properties(ctypes.Structure):
    _fields_ = (
        ("type", c_int),
        ("handle_types", c_int),
        ("location", _Location),
        ("windows", c_void_p),
        ("flags", _Flags),
    )


class _Access(ctypes.Structure):
    _fields_ = (("location", _Location), ("flags", c_int))


class Driver:
    """libcuda, with the context of device 0. Raises Refused if there is no driver or no device."""

    _SIGNATURES = {  # noqa: RUF012
        "cuInit": (ctypes.c_uint,),
        "cuDeviceGet": (c_void_p, c_int),
        "cuDeviceGetAttribute": (c_void_p, c_int, c_int),
        "cuDevicePrimaryCtxRetain": (c_void_p, c_int),
        "cuDevicePrimaryCtxRelease_v2": (c_int,),
        "cuCtxSetCurrent": (c_void_p,),
        "cuCtxSynchronize": (),
        "cuMemGetAllocationGranularity": (c_void_p, c_void_p, c_int),
        "cuMemCreate": (c_void_p, c_size_t, c_void_p, c_uint64),
        "cuMemRelease": (c_uint64,),
        "cuMemExportToShareableHandle": (c_void_p, c_uint64, c_int, c_uint64),
        "cuMemImportFromShareableHandle": (c_void_p, c_void_p, c_int),
        "cuMemAddressReserve": (c_void_p, c_size_t, c_size_t, c_uint64, c_uint64),
        "cuMemAddressFree": (c_uint64, c_size_t),
        "cuMemMap": (c_uint64, c_size_t, c_size_t, c_uint64, c_uint64),
        "cuMemUnmap": (c_uint64, c_size_t),
        "cuMemSetAccess": (c_uint64, c_size_t, c_void_p, c_size_t),
        "cuMemsetD32_v2": (c_uint64, ctypes.c_uint, c_size_t),
        "cuMemcpyDtoH_v2": (c_void_p, c_uint64, c_size_t),
    }

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libcuda.so.1")
            for name, arguments in self._SIGNATURES.items():
                getattr(self._library, name).argtypes = arguments
        except (OSError, AttributeError) as error:
            raise Refused(f"no driver that shares memory ({error})") from None
        self("cuInit", 0)
        self.device = c_int()
        self("cuDeviceGet", ctypes.byref(self.device), 0)
        context = c_void_p()
        self("cuDevicePrimaryCtxRetain", ctypes.byref(context), self.device)  # torch uses this context, too
        self("cuCtxSetCurrent", context)

    def __call__(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver. Raises NoRoom, or Refused with the error number."""
        if error := getattr(self._library, name)(*arguments):
            raise NoRoom() if error == OUT_OF_MEMORY else Refused(f"{name} says error {error}")


class DeviceMemory:
    """GPU memory that is shared by all processes that open `file`: `size` bytes, rounded up to the driver's unit."""

    def __init__(self, size: int, file: int | None = None) -> None:
        """Allocate memory, or open the memory of another process by its `file`, which `close` then closes, too.

        Raises Refused or NoRoom.
        """
        with ExitStack() as undo:
            self._driver = call = Driver()
            undo.callback(call, "cuDevicePrimaryCtxRelease_v2", call.device)
            where = _Location(DEVICE, call.device.value)
            wanted = _Properties(PINNED, POSIX_FILE, where)
            grain, handle, self._address = c_size_t(), c_uint64(), c_uint64()
            call("cuMemGetAllocationGranularity", ctypes.byref(grain), ctypes.byref(wanted), 0)
            self.size = -(-size // grain.value) * grain.value
            if file is None:
                supported, found = c_int(), c_int()
                call("cuDeviceGetAttribute", ctypes.byref(supported), HANDLE_TYPE_POSIX_FILE_SUPPORTED, call.device)
                if not supported:
                    raise Refused("the driver shares no memory here")
                call("cuMemCreate", ctypes.byref(handle), self.size, ctypes.byref(wanted), 0)
                undo.callback(call, "cuMemRelease", handle)
                call("cuMemExportToShareableHandle", ctypes.byref(found), handle, POSIX_FILE, 0)
                file = found.value
            else:
                call("cuMemImportFromShareableHandle", ctypes.byref(handle), file, POSIX_FILE)
                undo.callback(call, "cuMemRelease", handle)
            self.file = file
            undo.callback(os.close, file)
            call("cuMemAddressReserve", ctypes.byref(self._address), self.size, 0, 0, 0)
            undo.callback(call, "cuMemAddressFree", self._address, self.size)
            call("cuMemMap", self._address, self.size, 0, handle, 0)
            undo.callback(call, "cuMemUnmap", self._address, self.size)
            access = _Access(where, READ_WRITE)
            call("cuMemSetAccess", self._address, self.size, ctypes.byref(access), 1)
            self._undo = undo.pop_all()

    def close(self) -> None:
        """Unmap and release; other processes keep their mapping."""
        self._undo.close()

    def fill(self, word: int, words: int) -> None:
        """Set the first `words` 32-bit words to `word`."""
        self._driver("cuMemsetD32_v2", self._address, word, words)
        self._driver("cuCtxSynchronize")  # the call above may return before the memory is set

    def read(self, size: int) -> bytes:
        """A copy of the first `size` bytes."""
        copy = ctypes.create_string_buffer(size)
        self._driver("cuMemcpyDtoH_v2", copy, self._address, size)
        return copy.raw

    def tensor(self, count: int) -> "Tensor":
        """The memory as a tensor (count,) float32 on the device: a view, not a copy."""
        import torch

        self.__cuda_array_interface__ = {
            "shape": (count,),
            "typestr": "<f4",
            "data": (self._address.value, False),
            "version": 3,
        }
        return torch.as_tensor(self, device="cuda")


def check_sharing(wrap: Callable[[list[str]], list[str]] = list) -> str:
    """Have another process write into this process's memory on the GPU. Returns why it failed, "" if it did not.

    `wrap` puts a command line into the sandbox that candidates run in.
    """
    try:
        memory = DeviceMemory(TRIED)
    except Refused as refused:
        return str(refused)
    except NoRoom:
        return ""  # sharing may still work, and a run that lacks memory says so itself
    command = wrap([sys.executable, "-P", "-m", "pytest_autoresearch.core.device_memory", str(memory.file)])
    try:
        tried = subprocess.run(
            command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, pass_fds=[memory.file]
        )
        if tried.returncode:
            return (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
        return (
            "" if memory.read(TRIED) == b"*\0\0\0" * (TRIED // 4) else "data written by another process does not arrive"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    finally:
        memory.close()


if __name__ == "__main__":
    try:
        DeviceMemory(TRIED, int(sys.argv[1])).fill(ord("*"), TRIED // 4)
    except (Refused, NoRoom) as error:
        sys.exit(f"{error or 'no memory left'}")
