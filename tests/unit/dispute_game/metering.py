# SPDX-License-Identifier: Apache-2.0
"""What calls on titanoboa would cost as transactions, and what an honest challenger pays in all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boa
from boa.util.abi import Address
from eth.db.backends.memory import MemoryDB
from eth.db.journal import JournalDB

from tests.stateful.chain import Function

from .table import Table

HONEST = "rival"
VIEWS = ("position", "bond_of", "games_of", "balance_of", "burned", "minimum_collateral")


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
    """With the 21,000 and the calldata, at EIP-7623's floor at least. What it does is taken back."""
    data = function.call_data(*args)
    with boa.env.anchor(), as_a_transaction(sender, str(function.address)):
        computation = boa.env.execute_code(to_address=function.address, sender=sender, data=data)
        assert not computation.is_error
        used, refund = int(computation.get_gas_used()), int(computation.get_gas_refund())
    zeros = data.count(0)
    gas = 21_000 + 4 * zeros + 16 * (len(data) - zeros) + used
    gas -= min(gas // 5, refund)
    return max(gas, 21_000 + 10 * zeros + 40 * (len(data) - zeros))


@dataclass
class Metered(Table):
    """Counts the gas of the honest challenger's transactions."""

    gas: int = field(default=0, kw_only=True)
    spent: list[tuple[str, int]] = field(default_factory=list, kw_only=True)  # function, gas

    def call(self, contract: str, name: str, sender: str, *args: Any) -> Any:
        who = self.people.get(sender, sender)
        if contract == "game" and who == self.people[HONEST] and name not in VIEWS:
            used = transaction_gas(self.game.functions[name], who, args)
            self.gas += used
            self.spent.append((name, used))
        return super().call(contract, name, sender, *args)
