# SPDX-License-Identifier: Apache-2.0
"""A sample of the fuzz run, and proof that it notices what is wrong. The whole run: `make test-fuzz`."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from . import model as spec
from .chain import CONTRACTS
from .harness import Mismatch, Tally, World
from .reasons import REASONS
from .run import never_refused, play

SAMPLE_CALLS = 20_000
# Within so many calls a difference has to show.
NOTICED_WITHIN = 6_000


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    yield World()


def play_until(world: World, calls: int, seed: int) -> Tally:
    tally = Tally()
    while tally.calls.total() < calls:
        play(world, seed, tally)
        seed += 1
    return tally


def test_sample_agrees_with_the_model_and_reaches_everything(world: World) -> None:
    tally = play_until(world, SAMPLE_CALLS, seed=77_000)
    assert set(REASONS) == set(tally.calls), "the table of refusals names other functions than were called"
    assert not set(REASONS) - set(tally.succeeded), "never succeeded"
    # Of all refusals of the specification only rare ones may be missing in a sample.
    reasons = sum(map(len, REASONS.values()))
    assert len(never_refused(tally)) < reasons // 6
    assert tally.succeeded.total() > tally.calls.total() * 0.45
    assert tally.paid > 100
    assert tally.slashed > 100


def test_same_seed_makes_the_same_calls(world: World) -> None:
    first, second, other = Tally(), Tally(), Tally()
    play(world, 5, first)
    play(world, 5, second)
    play(world, 6, other)
    assert first == second
    assert first != other


def _play_unhurried(seed: int, steps: int) -> Tally:
    tally = Tally()
    play(World(quick=False), seed, tally, steps)
    return tally


def test_quick_machine_runs_as_the_usual_one(world: World) -> None:
    tally = Tally()
    play(world, 11, tally, steps=300)
    # Another process, since this one has been made quick.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(_play_unhurried, 11, 300).result() == tally


def _generous_pay(*args: Any) -> int:
    return _EARNED(*args) + 1


def _keeps_the_place(escrow: spec.Escrow, terms: spec.Struct) -> None:
    pass


def _any_operator(staking: spec.Staking, provider: str, account: str) -> bool:
    return bool(staking.operators[provider] != spec.ZERO)


def _forgets_what_is_locked(staking: spec.Staking, caller: str, locker: str, total: int, per_job: int) -> None:
    _ALLOW(staking, caller, locker, total, per_job)
    staking.allowances[caller, locker] = spec.Allowance(total, per_job, 0)


_EARNED, _ALLOW = spec.earned, spec.Staking.allow


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (spec, "earned", _generous_pay),
        (spec, "MAX_FEE_BPS", 501),
        (spec, "ANSWER_WINDOW", spec.ANSWER_WINDOW - 1),
        (spec, "LANES", 7),
        (spec, "DAY", spec.DAY - 1),
        (spec.Escrow, "_give_back", _keeps_the_place),
        (spec.Staking, "is_operator", _any_operator),
        (spec.Staking, "allow", _forgets_what_is_locked),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_model_is_noticed(
    world: World, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, value: Callable[..., Any] | int
) -> None:
    monkeypatch.setattr(owner, name, value)
    with pytest.raises(Mismatch, match=r"seed \d+: .*the last calls:"):
        play_until(world, NOTICED_WITHIN, seed=88_000)


@pytest.mark.parametrize(
    ("contract", "file", "old", "new"),
    [
        ("JobEscrow", "modules/terms.vy", "COMPENSATION_BPS: constant(uint256) = 2_000", None),
        (
            "DataDemands",
            "DataDemands.vy",
            "assert block.timestamp <= packed >> 64",
            "assert block.timestamp < packed >> 64",
        ),
        ("ProviderStaking", "ProviderStaking.vy", "_MAX_ALLOWANCE: constant(uint256) = 2**85 - 1", None),
    ],
    ids=["compensation", "last-second-of-answering", "highest-allowance"],
)
def test_a_wrong_contract_is_noticed(tmp_path: Path, contract: str, file: str, old: str, new: str | None) -> None:
    copy = tmp_path / "contracts"
    shutil.copytree(CONTRACTS, copy)
    source = (copy / file).read_text()
    assert source.count(old) == 1
    new = new or old.replace("2_000", "2_001").replace("85 - 1", "85 - 2")
    (copy / file).write_text(source.replace(old, new))
    broken = World({contract: copy})
    with pytest.raises(Mismatch, match=r"seed \d+: .*the last calls:"):
        play_until(broken, SAMPLE_CALLS, seed=99_000)
