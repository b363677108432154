# SPDX-License-Identifier: Apache-2.0
"""Overwrites the memory of a GPU with zeros before a job gets it, so that nobody reads what was in it before.

NVIDIA's driver does not let one process read another's memory while both run, but promises in no document that memory
is empty when it changes hands. So all of it that is free is taken, overwritten, and given back. In a process of its
own, as in `devices`: the worker holds no CUDA state, and a driver that hangs takes nothing along.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from typing import Any

_SECONDS = 120
_MIB = 1 << 20
_LARGEST, _SMALLEST = 4096 * _MIB, 2 * _MIB
_PR_SET_PDEATHSIG = 1
_INTEGRATED = 18  # CU_DEVICE_ATTRIBUTE_INTEGRATED
# Of the worker's environment, what the driver's libraries are found by. Nothing secret goes along.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "CUDA_DEVICE_ORDER")


class NotCleared(Exception):
    """The memory could not be overwritten; says why."""


def clear(uuid: str | None) -> int:
    """Overwrites all memory of a GPU or slice that nobody holds, and returns how much that was (MiB).

    uuid: None for the only GPU. Raises NotCleared.
    """
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    if uuid is not None:
        environment["CUDA_VISIBLE_DEVICES"] = uuid
    try:
        done = subprocess.run(
            [sys.executable, "-I", __file__], capture_output=True, timeout=_SECONDS, check=True, env=environment
        )
        found: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        raise NotCleared(f"clearing its memory failed: {error}") from error
    if "reason" in found:
        raise NotCleared(f"clearing its memory failed: {found['reason']}")
    return int(found["cleared_mib"])


class _Failed(Exception):
    pass


def _overwrite() -> dict[str, Any]:
    """Runs in a process of its own."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
        return {"cleared_mib": _overwrite_by(cuda) // _MIB}
    except OSError:
        return {"reason": "no NVIDIA driver (libcuda.so.1) is installed"}
    except _Failed as error:
        return {"reason": str(error)}


def _overwrite_by(cuda: Any) -> int:
    def call(function: str, *arguments: Any) -> None:
        status = getattr(cuda, function)(*arguments)
        if status != 0:
            raise _Failed(f"{function} returned {status}")

    device, context = ctypes.c_int(), ctypes.c_void_p()
    call("cuInit", ctypes.c_uint(0))
    call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
    integrated = ctypes.c_int()
    call("cuDeviceGetAttribute", ctypes.byref(integrated), ctypes.c_int(_INTEGRATED), device)
    if integrated.value:
        # Its memory is the machine's, which the kernel empties; to take all of that would end the worker.
        return 0
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    call("cuCtxSetCurrent", context)
    held: list[ctypes.c_uint64] = []
    total, size = 0, _LARGEST
    # All is held until the end: what is given back at once would be handed out again at once.
    while size >= _SMALLEST:
        piece = ctypes.c_uint64()
        if cuda.cuMemAlloc_v2(ctypes.byref(piece), ctypes.c_size_t(size)) != 0:
            size //= 2
            continue
        call("cuMemsetD8_v2", piece, ctypes.c_ubyte(0), ctypes.c_size_t(size))
        held.append(piece)
        total += size
    call("cuCtxSynchronize")
    if not held:
        raise _Failed("no memory of it is free")
    for piece in held:
        call("cuMemFree_v2", piece)
    call("cuDevicePrimaryCtxRelease_v2", device)
    return total


if __name__ == "__main__":
    # With the worker, so that what it holds is free for the next one.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    sys.stdout.write(json.dumps(_overwrite()))
