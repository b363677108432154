# SPDX-License-Identifier: Apache-2.0
"""What `doctor` finds and `init` proposes on machines with GPUs, well and ill."""

from __future__ import annotations

import json
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
# `look(class, count)`: what is found of an offer.
CHECK = """
from gpubond.provider.checks import machine as checks
from gpubond.provider.checks.check import Subject
from gpubond.settings import Home, OfferSettings
def look(name, count):
    subject = Subject(Home(machine.directory))
    subject.offer = OfferSettings(**{"class": name}, count=count, price_per_hour="1", collateral="1")
    found = checks.gpu(subject)
    return [found.outcome, found.words, found.remedy]
"""

# Recording, then of each offer: class and count, and what is found: outcome, some of the words and of the remedy.
OFFERS: list[tuple[str, list[tuple[str, int, str, str, str | None]]]] = [
    (
        "h100x2",
        [
            (H100, 2, "ok", "2 x NVIDIA H100 80GB HBM3, driver 580.95.05 (CUDA 13.0), 33 °C at most", None),
            (H100, 1, "ok", "2 x NVIDIA H100", None),
            ("cpu-sim", 1, "warning", "this machine has NVIDIA H100", f'class = "{H100}"'),
            (H100, 3, "failed", "there are 2 of", "offer.count to 2"),
            ("nvidia-a100-80gb", 1, "failed", f"this machine is {H100}", f'class = "{H100}"'),
        ],
    ),
    ("mismatch", [(H100, 1, "failed", "mismatch", "reboot")]),
    # Its slices have no device nodes yet.
    ("a100-mig", [(SMALL, 2, "failed", "nvidia-cap<N>", "nvidia-modprobe")]),
]


@pytest.mark.parametrize(("recording", "offers"), OFFERS, ids=[name for name, _ in OFFERS])
def test_driver_and_gpus_against_the_offer(
    machine_with: Callable[[str], Machine], recording: str, offers: list[tuple[str, int, str, str, str | None]]
) -> None:
    asked = json.dumps([offer[:2] for offer in offers])
    found = machine_with(recording).run(
        CHECK + "print(json.dumps([look(*offer) for offer in json.loads(sys.argv[1])]))", asked
    )
    for (_, _, outcome, words, remedy), seen in zip(offers, found, strict=True):
        assert seen[0] == outcome and words in seen[1], seen
        assert seen[2] is None if remedy is None else remedy in seen[2], seen


def test_gpus_that_are_ill(machine_with: Callable[[str], Machine]) -> None:
    errors, lost, more, node = machine_with("h100x2").run(
        CHECK
        + f"""
machine.says("gpu1", "ecc_uncorrected", 2)
found = [look({H100!r}, 2)]
machine.says("gpu0", "status", 15)
found += [look({H100!r}, 1), look({H100!r}, 2)]
(machine.dev / "nvidia-uvm").unlink()
found += [look({H100!r}, 1)]
print(json.dumps(found))
"""
    )
    assert errors[:2] == ["warning", "GPU 1: 2 errors not corrected; jobs there may fail"]
    assert lost[0] == "warning" and "GPU 0: GPU is lost, GPU 1" in lost[1] and "reset" in lost[2]
    # More are offered than are left.
    assert more[0] == "failed" and "there are 1 of" in more[1]
    assert node[0] == "failed" and "nvidia-uvm" in node[1]


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
