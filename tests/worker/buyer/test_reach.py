# SPDX-License-Identifier: Apache-2.0
"""What a buyer learns of a provider's packages before it hires, and what it cannot learn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyrage
import pytest

from gpubond.buyer.reach import Reach
from gpubond.devnet import free_port
from gpubond.jobs.spec import JobSpec
from gpubond.provider.software import software

from ..bench import Bench
from ..provider.gateway_process import Door, open_door

NEEDED = {"numpy": ">=1", "no-such-package-anywhere": ">=2"}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with open_door(tmp_path_factory.mktemp("gateway"), inputs={"main.py": b""}) as door:
        yield door


@pytest.fixture
def spec(tmp_path: Path) -> JobSpec:
    section = {"script": "main.py", "requires": NEEDED}
    return Bench(tmp_path).spec("python", {"main.py": ""}, outputs=["out.txt"], python=section)


def test_a_gateway_is_asked(door: Door, spec: JobSpec) -> None:
    reach = Reach(None)
    assert reach.lacks(spec)(door.url) == "no-such-package-anywhere >=2 (it has none)"
    assert list(reach.said(spec, door.url)) == ["its gateway says that it has numpy >=1, no-such-package-anywhere >=2"]
    assert reach.software([door.url, door.url, "", "age1nothing"]) == {door.url: software()}


def test_one_that_does_not_say_is_not_hired(spec: JobSpec) -> None:
    silent = f"http://127.0.0.1:{free_port()}"
    assert "does not say whether it has numpy" in Reach(None).lacks(spec)(silent)
    assert Reach(None).software([silent]) == {silent: None}


def test_one_without_a_gateway_cannot_be_asked_and_that_is_said(spec: JobSpec) -> None:
    recipient = str(pyrage.x25519.Identity.generate().to_public())
    assert Reach(None).lacks(spec)(recipient) == ""
    (said,) = Reach(None).said(spec, recipient)
    assert "declines, and all comes back" in said


def test_a_job_that_needs_nothing_asks_nobody(door: Door, tmp_path: Path) -> None:
    spec = Bench(tmp_path).spec("python", {"main.py": ""}, outputs=["out.txt"], python={"script": "main.py"})
    assert Reach(None).lacks(spec)("http://127.0.0.1:1") == ""
    assert list(Reach(None).said(spec, door.url)) == []
