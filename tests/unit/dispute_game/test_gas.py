# SPDX-License-Identifier: Apache-2.0
"""Gas of each function, where it is dearest in some small games, beside `gas.json`, with the 21,000 and the calldata, at EIP-7623's floor at least.

After a change that is meant: `UPDATE_GAS=1 python -m pytest -p no:ape_test tests/unit/dispute_game/test_gas.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boa
import pytest
from boa.util.abi import Address
from eth.db.backends.memory import MemoryDB
from eth.db.journal import JournalDB

from gpubond.disputes.levels import Level
from tests.stateful.chain import Function

from .runs import every_function
from .table import Table

SNAPSHOT = Path(__file__).with_name("gas.json")
TOLERANCE = 0.01  # zero bytes in hashes differ with addresses
VIEWS = ("position", "bond_of", "games_of", "balance_of", "burned")


@contextmanager
def as_a_transaction(*warm: str) -> Iterator[None]:
    """What happens in here is paid for as in a transaction of its own, with these addresses known before: titanoboa
    takes all calls for one, in which slots that were written once, or read, cost next to nothing."""
    state = boa.env.evm.vm.state
    accounts, plain = state._account_db, state.get_storage
    known, accounts._journal_accessed_state = accounts._journal_accessed_state, JournalDB(MemoryDB())
    before: dict[tuple[bytes, int], int] = {}

    def get_storage(address: Any, slot: int, from_journal: bool = True) -> int:
        value: int = plain(address, slot)
        # Asked by each write, the first of which sees what was there before.
        return value if from_journal else before.setdefault((address, slot), value)

    for address in [*(Address(name).canonical_address for name in warm), *(at.to_bytes(20, "big") for at in range(10))]:
        state.mark_address_warm(address)
    state.get_storage = get_storage
    try:
        yield
    finally:
        del state.get_storage
        accounts._journal_accessed_state = known


def transaction_gas(function: Function, sender: str, args: tuple[Any, ...]) -> int:
    data = function.call_data(*args)
    with boa.env.anchor(), as_a_transaction(sender, str(function.address)):
        computation = boa.env.execute_code(to_address=function.address, sender=sender, data=data)
        assert not computation.is_error
        used, refund = int(computation.get_gas_used()), int(computation.get_gas_refund())
    zeros = data.count(0)
    gas = 21_000 + 4 * zeros + 16 * (len(data) - zeros) + used
    gas -= min(gas // 5, refund)
    return max(gas, 21_000 + 10 * zeros + 40 * (len(data) - zeros))


def judged(arguments: tuple[Any, ...]) -> str:
    """What is judged: by the position's level, and by the evidence, which is last and which only a join has not."""
    place, evidence = arguments[1].place, arguments[-1]
    level = list(Level)[(place >> 1 & 15) - 1]
    return f"judge {level.value}" if evidence else "judge join"


def measured(table: Table, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    used: dict[str, int] = {}
    plain = Table.call

    def call(self: Table, contract: str, name: str, sender: str, *args: Any) -> Any:
        found = self.game.functions.get(name)
        if contract == "game" and found is not None and name not in VIEWS:
            key = judged(args) if name == "judge" else name
            used[key] = max(used.get(key, 0), transaction_gas(found, self.people.get(sender, sender), args))
        return plain(self, contract, name, sender, *args)

    # The first life warms everybody's balance.
    table.lose(table.open(table.job(is_right=True)))
    monkeypatch.setattr(Table, "call", call)
    for runs in every_function():
        game = table.open(table.job(is_right=True, runs=runs))
        table.lose(game)
    table.release(game.job)
    wrong = table.open(table.job())
    table.at(wrong.deadline)
    table.time_out(wrong)
    table.convict(wrong.job)
    table.claim(wrong)
    table.withdraw("rival", table.balance("rival"))
    return used


def test_gas_is_as_committed(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    used = measured(table, monkeypatch)
    if os.environ.get("UPDATE_GAS"):
        SNAPSHOT.write_text(json.dumps(used, indent=2, sort_keys=True) + "\n")
    expected = json.loads(SNAPSHOT.read_text())
    assert used.keys() == expected.keys()
    different = {
        name: (expected[name], gas)
        for name, gas in used.items()
        if abs(gas - expected[name]) > TOLERANCE * expected[name]
    }
    assert not different, "as committed, now: if it is meant, run again with UPDATE_GAS=1"
