# SPDX-License-Identifier: Apache-2.0
"""What the driver says of a machine's GPUs, what is offered of that, and that nothing is invented."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gpubond.provider import devices, nvml
from gpubond.provider.devices import class_of

from .machine import Machine

LOOK = """
from dataclasses import asdict
from gpubond.provider import nvml
from gpubond.provider.gpus import units, words
driver = nvml.look()
found = units.machine_units()
print(json.dumps({
    "driver": asdict(driver),
    "json": words.as_json(driver),
    "rows": words.rows(driver),
    "sellable": units.sellable(),
    "units": [[u.uuid, u.class_name, [str(n.relative_to(machine.dev)) for n in u.nodes]] for u in found],
    "missing": [[str(n.relative_to(machine.dev)) for n in units.missing_nodes(u)] for u in found],
}))
"""


def test_two_gpus_of_a_data_centre(machine_with: Callable[[str], Machine]) -> None:
    found = machine_with("h100x2").run(LOOK)
    driver = found["driver"]
    assert (driver["version"], driver["cuda"], driver["mismatch"], driver["lost"]) == ("580.95.05", "13.0", None, [])
    first, second = driver["gpus"]
    assert (first["name"], first["memory_mib"], first["bus_id"]) == (
        "NVIDIA H100 80GB HBM3",
        81_559,
        "00000000:19:00.0",
    )
    assert (first["temperature_c"], first["power_w"], first["limit_w"]) == (31, 69.87, 700.0)
    assert (first["corrected"], first["uncorrected"], first["mig"], first["processes"]) == (0, 0, False, [])
    assert second["minor"] == 1 and second["uuid"] != first["uuid"]
    assert found["sellable"] == {"nvidia-h100-80gb-hbm3": 2}
    # Each has its own device node and none of the other's.
    assert [nodes for _, _, nodes in found["units"]] == [
        ["nvidia0", "nvidiactl", "nvidia-uvm"],
        ["nvidia1", "nvidiactl", "nvidia-uvm"],
    ]
    assert found["missing"] == [[], []]
    assert [gpu["class"] for gpu in found["json"]["gpus"]] == ["nvidia-h100-80gb-hbm3"] * 2


def test_a_gpu_that_is_cut_into_slices(machine_with: Callable[[str], Machine]) -> None:
    machine = machine_with("a100-mig")
    machine.cut({"gpu0/gi9/access": 84, "gpu0/gi9/ci0/access": 85, "gpu0/gi10/access": 93, "gpu0/gi10/ci0/access": 94})
    found = machine.run(LOOK)
    small, large = "nvidia-a100-40gb-mig-1g-5gb", "nvidia-a100-40gb-mig-3g-20gb"
    # What is sold are the slices, never the whole; that of which there are most is proposed.
    assert list(found["sellable"].items()) == [(small, 2), (large, 1)]
    units = {uuid: (name, nodes) for uuid, name, nodes in found["units"]}
    assert units["MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d"] == (
        small,
        ["nvidia0", "nvidia-caps/nvidia-cap84", "nvidia-caps/nvidia-cap85", "nvidiactl", "nvidia-uvm"],
    )
    assert units["MIG-63feeb45-94c6-50da-8f8f-2a3b7d1e9c06"][1][1:3] == [
        "nvidia-caps/nvidia-cap93",
        "nvidia-caps/nvidia-cap94",
    ]
    # The first slice has no capability nodes: it cannot be used, and that is seen.
    assert found["missing"] == [["nvidia-caps/nvidia-cap<N>"], [], []]
    assert [row[0] for row in found["rows"]] == [0, "0/2", "0/9", "0/10"]


def test_containers_know_a_gpu_by_uuid_or_number(machine_with: Callable[[str], Machine]) -> None:
    machine = machine_with("a100-mig")
    names = """
names = []
folder = machine.directory / "cdi"
units.CDI_FOLDERS = (folder, machine.directory / "none")
for text in ("", "devices:\\n- name: 0:3\\n- name: MIG-63feeb45-94c6-50da-8f8f-2a3b7d1e9c06\\n"):
    folder.mkdir(exist_ok=True)
    (folder / "nvidia.yaml").write_text(text)
    names.append([units.cdi_name(unit) for unit in found])
print(json.dumps(names))
"""
    by_number, by_uuid = machine.run(LOOK.partition("print(")[0] + names)
    assert by_number == ["0:0", "0:1", "0:3"]
    assert by_uuid == ["0:0", "0:1", "MIG-63feeb45-94c6-50da-8f8f-2a3b7d1e9c06"]


@pytest.mark.parametrize("recording", ["rtx4090", "gtx1080", "gb10"])
def test_what_a_card_does_not_tell_is_left_out(machine_with: Callable[[str], Machine], recording: str) -> None:
    found = machine_with(recording).run(LOOK)
    (gpu,) = found["driver"]["gpus"]
    assert (gpu["corrected"], gpu["uncorrected"], gpu["mig"], gpu["slices"]) == (None, None, None, [])
    assert found["rows"][0][6] == "not counted"
    # Its memory is the machine's, so the driver names none.
    assert (gpu["memory_mib"] is None) == (recording == "gb10")
    assert (gpu["limit_w"] is None) == (recording == "gb10")
    assert gpu["processes"] == ([2913] if recording == "rtx4090" else [])


def test_a_lost_gpu_does_not_hide_the_other(machine_with: Callable[[str], Machine]) -> None:
    machine = machine_with("h100x2")
    machine.says("gpu0", "status", 15)
    found = machine.run(LOOK)
    assert found["driver"]["lost"] == ["GPU 0: GPU is lost"]
    assert [gpu["index"] for gpu in found["driver"]["gpus"]] == [1]
    assert found["sellable"] == {"nvidia-h100-80gb-hbm3": 1}


def test_a_library_that_does_not_fit_its_module(machine_with: Callable[[str], Machine]) -> None:
    found = machine_with("mismatch").run(LOOK)
    assert "mismatch" in found["driver"]["mismatch"]
    assert (found["driver"]["gpus"], found["units"], found["sellable"]) == ([], [], {"cpu-sim": None})


@pytest.mark.skipif(devices.has_gpu(), reason="this machine has a GPU")
def test_without_a_driver_nothing_is_said() -> None:
    assert nvml.look() == nvml.Driver(None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "nvidia-h100-80gb-hbm3"),
        ("Tesla T4", "nvidia-tesla-t4"),
        ("NVIDIA RTX 6000 Ada Generation", "nvidia-rtx-6000-ada-generation"),
        # The chain holds 31 characters.
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "nvidia-h100-80gb-mig-1g-10gb"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "nvidia-geforce-rtx-4090-laptop"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "nvidia-rtx-pro-6000-workstation"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "nvidia-rtx-pro-6000-server"),
    ],
)
def test_a_class_fits_on_chain_and_tells_cards_apart(name: str, expected: str) -> None:
    assert class_of(name) == expected
    assert len(expected) <= 31


def test_two_long_names_that_begin_alike_are_two_classes() -> None:
    long = "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition"
    other = long + " D"
    assert len({class_of(long), class_of(other)}) == 2
    assert max(len(class_of(long)), len(class_of(other))) <= 31
