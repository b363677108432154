# SPDX-License-Identifier: Apache-2.0
"""The contracts pass the fast suite, wrong ones fail it, and mutants are what they are said to be."""

from __future__ import annotations

import json
import re

import pytest

from . import suite
from .chain import CONTRACTS, closure, compile_contract
from .mutants import every, files, sample
from .run import ACCEPTED, KILLED, SURVIVED, judge, real_programs, summary
from .world import TARGETS

MUTANTS = every()


def test_the_contracts_pass() -> None:
    real = real_programs()
    assert suite.failure(real, real) == ""


@pytest.mark.parametrize(
    ("file", "after", "operator"),
    [
        ("ProviderStaking.vy", 'assert amount < locked, "staking: not locked"', "comparison"),
        ("DataDemands.vy", "self.claimable[terms.provider] -= ANSWER_FEE", "change write"),
        ("modules/merkle.vy", "if position & 1 != 0:", "comparison"),
        ("JobEscrowViews.vy", "if price >= staticcall ESCROW.balance_of(buyer):", "comparison"),
    ],
)
def test_a_wrong_contract_falls(file: str, after: str, operator: str) -> None:
    candidates = [
        mutant
        for mutant in MUTANTS
        if (mutant.file, mutant.operator) == (file, operator)
        and mutant.diff((CONTRACTS / file).read_text()).endswith(f"=>  {after}")
    ]
    assert candidates, after
    for mutant in candidates[:1]:
        assert judge(mutant)["status"] == KILLED, after


def test_only_what_the_suite_executes_is_in_the_sample() -> None:
    chosen = {path.relative_to(CONTRACTS).as_posix() for path in files()}
    assert {f"{name}.vy" for name in TARGETS} | {"modules/merkle.vy", "modules/terms.vy"} <= chosen
    assert not chosen & {"Judge.vy", "modules/float32.vy", "modules/exact_merkle.vy", "modules/exact_records.vy"}
    for file in chosen:
        assert any(CONTRACTS / file in closure(CONTRACTS / f"{name}.vy") for name in TARGETS), file


def test_every_file_and_operator_has_mutants() -> None:
    # One statement in its constructor, for which tests/stateful/test_chain_id.py changes the chain.
    bare = {"modules/ids.vy"}
    assert {mutant.file for mutant in MUTANTS} | bare == {path.relative_to(CONTRACTS).as_posix() for path in files()}
    assert {mutant.operator for mutant in MUTANTS} >= {
        "drop guard", "negate", "comparison", "logic", "arithmetic", "constant", "drop write", "change write",
        "drop call", "drop event", "swap", "role check", "state", "ignore outcome",
    }  # fmt: skip
    assert len(MUTANTS) > 1_500


def test_every_guard_and_write_has_a_mutant() -> None:
    for path in files():
        file = path.relative_to(CONTRACTS).as_posix()
        dropped = {mutant.line for mutant in MUTANTS if mutant.file == file and mutant.operator.startswith("drop")}
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.match(r"\s+(errors\._fail\(|assert |raise \"|self\.\w+(\[.*\])? [-+]?= )", line):
                assert number in dropped, (file, number, line)


def test_a_mutant_is_one_change_with_an_id_of_its_own() -> None:
    assert len({mutant.id for mutant in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        source = (CONTRACTS / mutant.file).read_text()
        changed = mutant.apply(source)
        assert changed != source
        assert changed.startswith(source[: mutant.start])
        assert changed.endswith(source[mutant.end :])


def test_a_sample_is_the_beginning_of_a_larger_one() -> None:
    small, large = (list(sample(MUTANTS, size, 5)) for size in (20, 60))
    assert large[:20] == small
    assert list(sample(MUTANTS, 20, 6)) != small


def test_what_was_accepted_exists_and_is_explained() -> None:
    known = {mutant.id: mutant for mutant in MUTANTS}
    for key, entry in json.loads(ACCEPTED.read_text()).items():
        mutant = known[key]
        assert entry["diff"] == mutant.diff((CONTRACTS / mutant.file).read_text())
        assert entry["kind"] in ("equivalent", "accepted")
        assert len(entry["why"]) > 20


def test_figures_count_a_survivor_that_is_merely_explained() -> None:
    first, second, third = MUTANTS[:3]
    results = [
        (first, {"status": KILLED}),
        (second, {"status": SURVIVED}),
        (third, {"status": SURVIVED}),
    ]
    figures = summary(
        results, {second.id: {"kind": "equivalent", "why": "x"}, third.id: {"kind": "accepted", "why": "y"}}
    )
    assert (figures["mutants"], figures["killed"], figures["survived"], figures["equivalent"]) == (2, 1, 1, 1)
    assert figures["score"] == 0.5
    assert [survivor["id"] for survivor in figures["survivors"]] == [third.id]


def test_a_change_that_compiles_to_the_same_code_is_seen() -> None:
    path = CONTRACTS / "ProviderStaking.vy"
    same = compile_contract("ProviderStaking", {path: path.read_text() + "\n# A comment.\n"})
    assert same.code == real_programs()["ProviderStaking"].code
