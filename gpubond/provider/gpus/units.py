# SPDX-License-Identifier: Apache-2.0
"""What a job can be given: a whole GPU, or a MIG instance where the owner has cut one into slices."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from gpubond.provider import devices, nvml

DEV = Path("/dev")
# Which capability is which device node: lines like `gpu0/gi9/ci0/access 84`.
MIG_MINORS = Path("/proc/driver/nvidia-caps/mig-minors")

# Where `nvidia-ctk cdi generate` writes.
CDI_FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"))

# Every job on a GPU needs these beside the GPU's own; the last is for tools, and not everywhere.
_COMMON = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")
_NEEDED = ("nvidiactl", "nvidia-uvm")


@dataclass(frozen=True)
class Unit:
    """One GPU or slice.

    uuid: as CUDA knows it, None where only the device nodes tell of it. gpu: of the whole GPU, for the library.
    gpu_instance: of a slice. nodes: its device nodes and those that every job needs. busy_with: how many processes
    compute on it. bus_id: its PCI address, "" if it is not known. number: as the driver counts them; `0:1` of a slice.
    """

    uuid: str | None
    name: str
    class_name: str
    gpu: str | None
    place: str
    memory_mib: int | None
    gpu_instance: int | None
    nodes: tuple[Path, ...]
    busy_with: int = 0
    bus_id: str = ""
    number: str = "0"

    @property
    def key(self) -> str:
        """What tells it apart from the others of this machine."""
        return self.uuid or self.place


def units_of(driver: nvml.Driver) -> list[Unit]:
    """All units of the machine, in the driver's order. A GPU that is to be cut but has no slices yet gives none."""
    minors = _capabilities(MIG_MINORS)
    units = []
    for gpu in driver.gpus:
        own = DEV / f"nvidia{gpu.minor}"
        place = f"GPU {gpu.index} ({gpu.bus_id})"
        if not gpu.mig:
            units.append(
                Unit(
                    uuid=gpu.uuid,
                    name=gpu.name,
                    class_name=devices.class_of(gpu.name),
                    gpu=gpu.uuid,
                    place=place,
                    memory_mib=gpu.memory_mib,
                    gpu_instance=None,
                    nodes=_existing(own),
                    busy_with=len(gpu.processes),
                    bus_id=gpu.bus_id,
                    number=str(gpu.index),
                )
            )
            continue
        for piece in gpu.slices:
            instance = f"gpu{gpu.minor}/gi{piece.gpu_instance}"
            capabilities = [f"{instance}/access", f"{instance}/ci{piece.compute_instance}/access"]
            nodes = [DEV / "nvidia-caps" / f"nvidia-cap{minors[name]}" for name in capabilities if name in minors]
            units.append(
                Unit(
                    uuid=piece.uuid,
                    name=piece.name,
                    class_name=devices.class_of(piece.name),
                    gpu=gpu.uuid,
                    place=f"{place}, instance {piece.gpu_instance}",
                    memory_mib=piece.memory_mib,
                    gpu_instance=piece.gpu_instance,
                    nodes=_existing(own, *nodes),
                    bus_id=gpu.bus_id,
                    number=f"{gpu.index}:{piece.number}",
                )
            )
    return units


def machine_units() -> list[Unit]:
    """The units of this machine. Where NVIDIA's library is missing, the only GPU's, if CUDA can use it."""
    units = units_of(nvml.look())
    if units or not devices.has_gpu():
        return units
    own = sorted(path for path in DEV.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name))
    if len(own) != 1:
        return []
    name = devices.device_name()
    return [Unit(None, name, devices.class_of(name), None, "the only GPU", None, None, _existing(own[0]))]


def classes_of(units: list[Unit]) -> dict[str, int]:
    """How many units of each class there are, the most numerous first."""
    return dict(Counter(unit.class_name for unit in units).most_common())


def sellable() -> dict[str, int | None]:
    """The classes that this machine can sell, the most numerous first, and how many units of each there are; `cpu-sim`,
    without a number, where CUDA can use no GPU."""
    if not devices.has_gpu():
        return {devices.CPU_SIM: None}
    return {**classes_of(machine_units())} or {devices.device_class(): 1}


def missing_nodes(unit: Unit) -> list[Path]:
    """Device nodes without which CUDA does not start on the unit."""
    there = {path.name for path in unit.nodes}
    missing = [DEV / name for name in _NEEDED if name not in there]
    if not any(re.fullmatch(r"nvidia\d+", name) for name in there):
        missing.append(DEV / "nvidia<N>")
    if unit.gpu_instance is not None and sum(name.startswith("nvidia-cap") for name in there) < 2:
        missing.append(DEV / "nvidia-caps" / "nvidia-cap<N>")
    return missing


def cdi_name(unit: Unit) -> str:
    """What containers know the unit by: its uuid where this machine's description (CDI) has it, else its number."""
    files = [file for folder in CDI_FOLDERS if folder.is_dir() for file in sorted(folder.iterdir()) if file.is_file()]
    if unit.uuid is not None and any(unit.uuid.encode() in file.read_bytes() for file in files):
        return unit.uuid
    return unit.number


def _existing(*own: Path) -> tuple[Path, ...]:
    return tuple(path for path in (*own, *(DEV / name for name in _COMMON)) if path.exists())


def _capabilities(file: Path) -> dict[str, int]:
    if not file.is_file():
        return {}
    pairs = (line.split() for line in file.read_text().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
