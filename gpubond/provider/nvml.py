# SPDX-License-Identifier: Apache-2.0
"""What NVIDIA's management library and the kernel's module say of driver and devices. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# Where the loaded module names its version.
MODULE_VERSION = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Driver:
    """The driver: its version and devices, or None and () where there is none. `mismatch` says why it is unusable."""

    version: str | None
    devices: tuple[str, ...]
    mismatch: str | None


def look() -> Driver:
    """Asks; a machine without the driver or the library is no error."""
    module = MODULE_VERSION.read_text().splitlines()[0] if MODULE_VERSION.is_file() else None
    try:
        import pynvml
    except ImportError:
        return Driver(module, (), None)
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        # The library of a driver that was upgraded under a module that still runs is the usual case.
        return Driver(module, (), str(error) if module is not None else None)
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        names = tuple(str(pynvml.nvmlDeviceGetName(handle)) for handle in handles)
        return Driver(str(pynvml.nvmlSystemGetDriverVersion()), names, None)
    except pynvml.NVMLError as error:
        return Driver(module, (), str(error))
    finally:
        pynvml.nvmlShutdown()
