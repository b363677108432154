# SPDX-License-Identifier: Apache-2.0
"""What NVIDIA's management library and the kernel's module say of driver and GPUs. Reads only.

What a GPU does not tell is None: consumer cards count no ECC errors, a machine whose processor shares its memory with
the GPU names none, a slice of a GPU has no power of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Where the loaded module names its version.
MODULE_VERSION = Path("/proc/driver/nvidia/version")

_MIB = 1 << 20
# The library counts its users without a lock of its own that Python could rely on.
_lock = threading.Lock()


@dataclass(frozen=True)
class Slice:
    """One MIG instance: a GPU's slice with memory and processors of its own. The two instances name its device nodes;
    `number` is where it stands among the GPU's slices."""

    number: int
    uuid: str
    name: str
    memory_mib: int | None
    gpu_instance: int
    compute_instance: int


@dataclass(frozen=True)
class Gpu:
    """One GPU now.

    minor: the number of /dev/nvidia<minor>. used_mib: of its memory, by whomever. power_w, limit_w: watts, now and at
    most. corrected, uncorrected: ECC errors since the driver was loaded, None without ECC. mig: whether it is cut
    into `slices`, None where it cannot be. processes: ids of those that compute on it.
    """

    index: int
    uuid: str
    name: str
    minor: int
    bus_id: str
    memory_mib: int | None
    used_mib: int | None
    temperature_c: int | None
    power_w: float | None
    limit_w: float | None
    corrected: int | None
    uncorrected: int | None
    mig: bool | None
    slices: tuple[Slice, ...]
    processes: tuple[int, ...]


@dataclass(frozen=True)
class Driver:
    """The driver: its version, the newest CUDA it knows ("13.0") and its GPUs; None and () where there is none.

    mismatch: why it is unusable. lost: GPUs that it has but cannot reach, each with the reason.
    """

    version: str | None
    gpus: tuple[Gpu, ...] = ()
    mismatch: str | None = None
    cuda: str | None = None
    lost: tuple[str, ...] = ()


@contextmanager
def library() -> Iterator[Any]:
    """The library's module, ready for use until the end of the block.

    Raises:
        ImportError: nvidia-ml-py is not installed.
        pynvml.NVMLError: the driver has no such library, or it does not work.
    """
    import pynvml

    with _lock:
        pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        with _lock:
            pynvml.nvmlShutdown()


def look() -> Driver:
    """Asks; a machine without the driver or the library is no error."""
    module = MODULE_VERSION.read_text().splitlines()[0] if MODULE_VERSION.is_file() else None
    try:
        import pynvml
    except ImportError:
        return Driver(module)
    try:
        with library() as nvml:
            return _driver(nvml)
    except pynvml.NVMLError as error:
        # The library of a driver that was upgraded under a module that still runs is the usual case.
        missing = isinstance(error, pynvml.NVMLError_LibraryNotFound) and module is None
        return Driver(module, mismatch=None if missing else str(error))


def value(ask: Callable[..., Any], *arguments: Any) -> Any:
    """The answer, or None if this GPU or driver has none to that question. Raises NVMLError for a GPU that is ill."""
    import pynvml

    try:
        return ask(*arguments)
    except pynvml.NVMLError as error:
        silent = (
            pynvml.NVML_ERROR_NOT_SUPPORTED,
            pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            pynvml.NVML_ERROR_NO_PERMISSION,
            pynvml.NVML_ERROR_INVALID_ARGUMENT,
        )
        if error.value in silent:
            return None
        raise


def _driver(nvml: Any) -> Driver:
    gpus, lost = [], []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            gpus.append(_gpu(nvml, index, nvml.nvmlDeviceGetHandleByIndex(index)))
        except nvml.NVMLError as error:
            lost.append(f"GPU {index}: {error}")
    cuda = value(nvml.nvmlSystemGetCudaDriverVersion)
    return Driver(
        version=str(nvml.nvmlSystemGetDriverVersion()),
        gpus=tuple(gpus),
        cuda=None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        lost=tuple(lost),
    )


def _gpu(nvml: Any, index: int, handle: Any) -> Gpu:
    memory = value(nvml.nvmlDeviceGetMemoryInfo, handle)
    power = value(nvml.nvmlDeviceGetPowerUsage, handle)
    limit = value(nvml.nvmlDeviceGetPowerManagementLimit, handle)
    ecc = value(nvml.nvmlDeviceGetEccMode, handle)
    mig = value(nvml.nvmlDeviceGetMigMode, handle)
    counts: list[int | None] = [None, None]
    if ecc is not None and ecc[0]:
        kinds = (nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED)
        counts = [value(nvml.nvmlDeviceGetTotalEccErrors, handle, kind, nvml.NVML_VOLATILE_ECC) for kind in kinds]
    return Gpu(
        index=index,
        uuid=str(nvml.nvmlDeviceGetUUID(handle)),
        name=str(nvml.nvmlDeviceGetName(handle)),
        minor=int(nvml.nvmlDeviceGetMinorNumber(handle)),
        bus_id=_text(nvml.nvmlDeviceGetPciInfo(handle).busId),
        memory_mib=None if memory is None else memory.total // _MIB,
        used_mib=None if memory is None else memory.used // _MIB,
        temperature_c=value(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
        power_w=None if power is None else power / 1000,
        limit_w=None if limit is None else limit / 1000,
        corrected=counts[0],
        uncorrected=counts[1],
        mig=None if mig is None else bool(mig[0]),
        slices=tuple(_slices(nvml, handle)) if mig is not None and mig[0] else (),
        processes=tuple(item.pid for item in value(nvml.nvmlDeviceGetComputeRunningProcesses, handle) or ()),
    )


def _slices(nvml: Any, handle: Any) -> Iterator[Slice]:
    for number in range(value(nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        try:
            piece = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except nvml.NVMLError_NotFound:
            continue
        memory = value(nvml.nvmlDeviceGetMemoryInfo, piece)
        yield Slice(
            number=number,
            uuid=str(nvml.nvmlDeviceGetUUID(piece)),
            name=str(nvml.nvmlDeviceGetName(piece)),
            memory_mib=None if memory is None else memory.total // _MIB,
            gpu_instance=int(nvml.nvmlDeviceGetGpuInstanceId(piece)),
            compute_instance=int(nvml.nvmlDeviceGetComputeInstanceId(piece)),
        )


def _text(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)
