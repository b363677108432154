# SPDX-License-Identifier: Apache-2.0
"""One world for all tests of a module; a small disk of its own where one can be mounted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gpubond.devnet import find_anvil

from .run import small_disk_refusal
from .world import REPOSITORY, World


@pytest.fixture(scope="package")
def disk_refusal(tmp_path_factory: pytest.TempPathFactory) -> str | None:
    """Why the worker has no small disk here."""
    return small_disk_refusal(tmp_path_factory.mktemp("disk"))


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory, disk_refusal: str | None) -> Iterator[World]:
    anvil = find_anvil(REPOSITORY / ".cache" / "anvil")
    made = World(tmp_path_factory.mktemp("faults"), anvil, mount=disk_refusal is None)
    try:
        yield made
        if made.worker is None:
            made.start_worker()
        made.judge_all()
    finally:
        made.close()


@pytest.fixture(autouse=True)
def calm_after_a_failure(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that failed leaves no fault to the next one."""
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed and "world" in request.fixturenames:
        request.getfixturevalue("world").calm_down()
