# SPDX-License-Identifier: Apache-2.0
"""Gas of each function, where it is dearest in some small games, as a transaction of its own, beside `gas.json`.

After a change that is meant: `UPDATE_GAS=1 python -m pytest -p no:ape_test tests/unit/dispute_game/test_gas.py`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gpubond.disputes.levels import Level

from .metering import VIEWS, transaction_gas
from .runs import every_function
from .table import Table

SNAPSHOT = Path(__file__).with_name("gas.json")
TOLERANCE = 0.01  # zero bytes in hashes differ with addresses


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
