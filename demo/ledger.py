# SPDX-License-Identifier: Apache-2.0
"""Who held what before and after, and who paid for which gas: read from the chain, not from our own notes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from gpubond.chain.contracts import Contracts


@dataclass(frozen=True)
class Party:
    """One role: the address that owns its money and all addresses that pay its gas."""

    name: str
    owner: str
    senders: tuple[str, ...]


class Ledger:
    """Differences since it was opened. Amounts in base units, gas in gas."""

    def __init__(self, contracts: Contracts, parties: list[Party]) -> None:
        self._contracts = contracts
        self._parties = parties
        self._block = contracts.node.eth.block_number
        self._before = self._holdings()

    def _holdings(self) -> dict[str, int]:
        held = {
            party.name: self._contracts.token_balance(party.owner)
            + self._contracts.escrow_balance(party.owner)
            + self._contracts.provider(party.owner).stake
            for party in self._parties
        }
        held["burned"] = self._contracts.burned()
        held["protocol"] = sum(self._contracts.provider(party.owner).fees for party in self._parties)
        return held

    def changes(self) -> dict[str, int]:
        """What each party gained or lost, and what was burned or went to the protocol; the sum is zero."""
        after = self._holdings()
        changes = {name: after[name] - before for name, before in self._before.items()}
        if sum(changes.values()) != 0:
            raise AssertionError(f"money appeared or vanished: {changes}")
        return changes

    def gas(self) -> dict[str, int]:
        """Gas that each party's addresses paid for since the start."""
        names = {sender: party.name for party in self._parties for sender in party.senders}
        used: dict[str, int] = defaultdict(int)
        eth = self._contracts.node.eth
        for number in range(self._block + 1, eth.block_number + 1):
            for receipt in eth.get_block_receipts(number):
                used[names.get(receipt["from"], "others")] += receipt["gasUsed"]
        return dict(used)

    def gas_of(self, *hashes: str) -> int:
        """Gas of some transactions together."""
        eth = self._contracts.node.eth
        return sum(eth.get_transaction_receipt(value)["gasUsed"] for value in hashes)  # type: ignore[arg-type]
