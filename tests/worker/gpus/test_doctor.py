# SPDX-License-Identifier: Apache-2.0
"""What `doctor` finds and `init` proposes on machines with GPUs, well and ill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gpubond.errors import BadInput
from gpubond.provider import devices
from gpubond.provider.checks import machine as checks
from gpubond.provider.checks.check import Outcome, Subject
from gpubond.settings import Home, OfferSettings

from .machine import Machine

H100, SMALL = "nvidia-h100-80gb-hbm3", "nvidia-a100-40gb-mig-1g-5gb"
CHECK = """
from gpubond.provider.checks import machine as checks
from gpubond.provider.checks.check import Subject
from gpubond.settings import Home, OfferSettings
subject = Subject(Home(machine.directory))
subject.offer = OfferSettings(**{"class": sys.argv[1]}, count=int(sys.argv[2]), price_per_hour="1", collateral="1")
found = checks.gpu(subject)
print(json.dumps([found.outcome, found.words, found.remedy]))
"""


@pytest.mark.parametrize(
    ("recording", "offered", "count", "outcome", "words", "remedy"),
    [
        ("h100x2", H100, 2, "ok", "2 x NVIDIA H100 80GB HBM3, driver 580.95.05 (CUDA 13.0), 33 °C at most", None),
        ("h100x2", H100, 1, "ok", "2 x NVIDIA H100", None),
        ("h100x2", "cpu-sim", 1, "warning", "this machine has NVIDIA H100", f'class = "{H100}"'),
        ("h100x2", H100, 3, "failed", "there are 2 of", "offer.count to 2"),
        ("h100x2", "nvidia-a100-80gb", 1, "failed", f"this machine is {H100}", f'class = "{H100}"'),
        ("mismatch", H100, 1, "failed", "mismatch", "reboot"),
        # Its slices have no device nodes yet.
        ("a100-mig", SMALL, 2, "failed", "nvidia-cap<N>", "nvidia-modprobe"),
    ],
)
def test_driver_and_gpus_against_the_offer(
    machine_with: Callable[[str], Machine],
    recording: str,
    offered: str,
    count: int,
    outcome: str,
    words: str,
    remedy: str | None,
) -> None:
    found = machine_with(recording).run(CHECK, offered, str(count))
    assert found[0] == outcome and words in found[1], found
    assert found[2] is None if remedy is None else remedy in found[2], found


def test_gpus_that_are_ill(machine_with: Callable[[str], Machine]) -> None:
    machine = machine_with("h100x2")
    machine.says("gpu1", "ecc_uncorrected", 2)
    found = machine.run(CHECK, H100, "2")
    assert found[:2] == ["warning", "GPU 1: 2 errors not corrected; jobs there may fail"]
    machine.says("gpu0", "status", 15)
    found = machine.run(CHECK, H100, "1")
    assert found[0] == "warning" and "GPU 0: GPU is lost, GPU 1" in found[1] and "reset" in found[2]
    # More are offered than are left.
    assert machine.run(CHECK, H100, "2")[0] == "failed"
    (machine.dev / "nvidia-uvm").unlink()
    found = machine.run(CHECK, H100, "1")
    assert found[0] == "failed" and "nvidia-uvm" in found[1]


@pytest.mark.skipif(devices.has_gpu(), reason="this machine has a GPU")
@pytest.mark.parametrize(
    ("offered", "outcome", "words"),
    [("cpu-sim", Outcome.OK, "none, and class cpu-sim needs none"), (H100, Outcome.FAILED, "no usable GPU")],
)
def test_a_machine_without_a_gpu(tmp_path: Path, offered: str, outcome: Outcome, words: str) -> None:
    subject = Subject(Home(tmp_path))
    subject.offer = OfferSettings(**{"class": offered}, price_per_hour="1", collateral="1")  # type: ignore[arg-type]
    found = checks.gpu(subject)
    assert found.outcome is outcome and words in found.words


@pytest.mark.gpu
@pytest.mark.skipif(not devices.has_gpu(), reason=devices.no_gpu_reason())
def test_a_real_gpu_is_what_is_offered(tmp_path: Path) -> None:
    subject = Subject(Home(tmp_path))
    subject.offer = OfferSettings(**{"class": devices.device_class()}, price_per_hour="1", collateral="1")  # type: ignore[arg-type]
    found = checks.gpu(subject)
    assert found.outcome is Outcome.OK and "driver" in found.words


CHOOSE = """
from gpubond.cli.provider_gpus import choose_units
from gpubond.errors import BadInput
found = []
for name, count in json.loads(sys.argv[1]):
    try:
        found.append(choose_units(name, count))
    except BadInput as error:
        found.append([error.field, error.remedy])
print(json.dumps(found))
"""


def test_init_proposes_all_of_the_class_of_which_there_are_most(machine_with: Callable[[str], Machine]) -> None:
    asked = '[[null, null], [null, 1], [null, 3], ["nvidia-a100-40gb-mig-3g-20gb", null], ["cpu-sim", null]]'
    assert machine_with("a100-mig").run(CHOOSE, asked) == [
        [SMALL, 2],
        [SMALL, 1],
        ["count", "give --count 2 at most, or leave it out"],
        ["nvidia-a100-40gb-mig-3g-20gb", 1],
        ["class", "leave --class out."],
    ]


@pytest.mark.skipif(devices.has_gpu(), reason="this machine has a GPU")
def test_init_on_a_machine_without_a_gpu() -> None:
    from gpubond.cli.provider_gpus import choose_units

    assert (choose_units(None, None), choose_units("cpu-sim", 7)) == (("cpu-sim", 1), ("cpu-sim", 7))
    with pytest.raises(BadInput, match="has no nvidia-h100"):
        choose_units(H100, None)
