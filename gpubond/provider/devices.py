# SPDX-License-Identifier: Apache-2.0
"""Which device this machine has: asked of the driver, never assumed.

The driver is asked in a process of its own, so that the worker holds no CUDA state and a driver that hangs or crashes
takes nothing along.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import re
import subprocess
import sys
from functools import lru_cache
from typing import Any

CPU_SIM = "cpu-sim"
_PROBE_SECONDS = 60
_CLASS_LENGTH = 31
# Left out of a name that is too long for a class, in this order, until it fits.
_SPARE_WORDS = ("generation", "edition", "gpu", "geforce", "hbm3", "sxm4", "sxm5", "pcie", "blackwell", "design")


def _ask_driver() -> dict[str, Any]:
    """Name, memory (MiB) and compute capability (90 for 9.0) of device 0 and the driver's CUDA (13020 for 13.2), or the
    reason why there is none. Runs in the probe's process."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return {"reason": "no NVIDIA driver (libcuda.so.1) is installed"}
    count = ctypes.c_int()
    device = ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    memory = ctypes.c_size_t()
    driver, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    steps: list[tuple[str, Any]] = [
        ("cuInit", (ctypes.c_uint(0),)),
        ("cuDeviceGetCount", (ctypes.byref(count),)),
        ("cuDeviceGet", (ctypes.byref(device), ctypes.c_int(0))),
        ("cuDeviceGetName", (name, ctypes.c_int(len(name)), device)),
        ("cuDeviceTotalMem_v2", (ctypes.byref(memory), device)),
        ("cuDriverGetVersion", (ctypes.byref(driver),)),
        ("cuDeviceGetAttribute", (ctypes.byref(major), ctypes.c_int(75), device)),  # COMPUTE_CAPABILITY_MAJOR
        ("cuDeviceGetAttribute", (ctypes.byref(minor), ctypes.c_int(76), device)),  # COMPUTE_CAPABILITY_MINOR
    ]
    for function, arguments in steps:
        status = getattr(cuda, function)(*arguments)
        if status != 0:
            return {"reason": f"the NVIDIA driver has no usable device: {function} returned {status}"}
    return {
        "name": name.value.decode(errors="replace"),
        "memory_mib": memory.value >> 20,
        "capability": major.value * 10 + minor.value,
        "driver": driver.value,
    }


@lru_cache(maxsize=1)
def _probe() -> dict[str, Any]:
    command = [sys.executable, "-I", __file__]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_SECONDS, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        return {"reason": f"asking the NVIDIA driver failed: {error}"}
    return found


def has_gpu() -> bool:
    """Whether the driver has a usable device 0. Asked once per process."""
    return "name" in _probe()


def no_gpu_reason() -> str:
    """Why `has_gpu` is False; empty when it is True."""
    return str(_probe().get("reason", ""))


def device_name() -> str:
    """The driver's name of device 0, or "cpu-sim (host)"."""
    return str(_probe().get("name", f"{CPU_SIM} (host)"))


def device_memory_mib() -> int | None:
    """Memory of device 0; None where there is none."""
    found = _probe()
    return int(found["memory_mib"]) if "name" in found else None


def compute_capability() -> int | None:
    """Of device 0, 90 for 9.0; None where there is none."""
    found = _probe()
    return int(found["capability"]) if "name" in found else None


def driver_cuda() -> int | None:
    """The newest CUDA that the driver knows, 13020 for 13.2; None where there is no device."""
    found = _probe()
    return int(found["driver"]) if "name" in found else None


def device_class() -> str:
    """The class this machine may offer: a slug of the driver's name (`nvidia-h100-80gb-hbm3`), or `cpu-sim`."""
    found = _probe()
    return class_of(found["name"]) if "name" in found else CPU_SIM


def class_of(name: str) -> str:
    """The class of a device with the driver's name `name`: at most 31 characters, as the chain holds no more."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    words = slug.removeprefix("nvidia-").split("-")
    for spare in _SPARE_WORDS:
        if len("-".join(words)) <= _CLASS_LENGTH - len("nvidia-"):
            break
        if spare in words:
            words.remove(spare)
    shortened = "-".join(["nvidia", *words])
    if len(shortened) <= _CLASS_LENGTH:
        return shortened
    # Two names that begin alike are still two classes.
    mark = hashlib.sha256(slug.encode()).hexdigest()[:6]
    return f"{shortened[: _CLASS_LENGTH - 7].rstrip('-')}-{mark}"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_ask_driver()))
