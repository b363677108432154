# SPDX-License-Identifier: Apache-2.0
"""GPUs in words and as JSON, for `gpubond provider doctor` and `status`. What a GPU does not tell is left out."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gpubond.provider import devices, nvml

HEAD = ("gpu", "name", "class", "memory", "temperature", "power", "ECC errors", "processes")


def as_json(driver: nvml.Driver) -> dict[str, Any]:
    """The driver and its GPUs, with the class of each unit; null is what a GPU does not tell."""
    found = asdict(driver)
    for gpu in found["gpus"]:
        gpu["class"] = None if gpu["mig"] else devices.class_of(gpu["name"])
        for piece in gpu["slices"]:
            piece["class"] = devices.class_of(piece["name"])
    return found


def rows(driver: nvml.Driver) -> list[tuple[object, ...]]:
    """A line for each GPU and each slice, under `HEAD`."""
    lines: list[tuple[object, ...]] = []
    for gpu in driver.gpus:
        cut = f"cut into {len(gpu.slices)} slices" if gpu.mig else devices.class_of(gpu.name)
        used = "" if gpu.used_mib is None else f"{gpu.used_mib:,} of "
        lines.append(
            (
                gpu.index,
                gpu.name,
                cut,
                "" if gpu.memory_mib is None else f"{used}{gpu.memory_mib:,} MiB",
                "" if gpu.temperature_c is None else f"{gpu.temperature_c} °C",
                _power(gpu),
                _ecc(gpu),
                len(gpu.processes),
            )
        )
        for piece in gpu.slices:
            memory = "" if piece.memory_mib is None else f"{piece.memory_mib:,} MiB"
            place = f"{gpu.index}/{piece.gpu_instance}"
            lines.append((place, piece.name, devices.class_of(piece.name), memory, "", "", "", ""))
    return lines


def summary(driver: nvml.Driver) -> str:
    """One line: the driver, and what is hottest."""
    words = f"driver {driver.version}" + ("" if driver.cuda is None else f" (CUDA {driver.cuda})")
    hottest = max((gpu.temperature_c for gpu in driver.gpus if gpu.temperature_c is not None), default=None)
    return words + ("" if hottest is None else f", {hottest} °C at most")


def _power(gpu: nvml.Gpu) -> str:
    if gpu.power_w is None:
        return ""
    return f"{gpu.power_w:.0f} W" if gpu.limit_w is None else f"{gpu.power_w:.0f} of {gpu.limit_w:.0f} W"


def _ecc(gpu: nvml.Gpu) -> str:
    if gpu.uncorrected is None and gpu.corrected is None:
        return "not counted"
    return f"{gpu.corrected or 0} corrected, {gpu.uncorrected or 0} not"
