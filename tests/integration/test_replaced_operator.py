# SPDX-License-Identifier: Apache-2.0
"""An operator's key was stolen: one `join` with another key ends what the thief posted before any stake is allowed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gpubond.chain.contracts import Call
from gpubond.chain.development import dev_account
from gpubond.chain.market import Offer, class_bytes
from gpubond.chain.session import open_session
from gpubond.errors import Refused

from .marketplace import Marketplace

ROOT = Path(__file__).resolve().parents[2]
OWNER, OPERATOR, NEW_OPERATOR, BUYER = 1, 2, 6, 5


def test_a_join_with_another_key_ends_what_the_stolen_one_posted(market: Marketplace) -> None:
    home = market.provider("provider", OWNER, OPERATOR)
    buyer = market.buyer("buyer", BUYER)
    owner = str(dev_account(OWNER).address)

    # The thief posts a trap of another class with the stolen key, as the operator itself would.
    with open_session(home) as session:
        session.sync()
        own = next(record.offer for record in session.index.open_offers() if record.offer.provider == owner)
        trap = replace(own, resource_class=class_bytes("trap"), shortest_run=0, longest_run=1, expiry=own.expiry + 1)
        session.send(session.contracts.post_offer(trap), "trap")
    found = market.ok("job", "quote", "--seconds", "60", "--home", str(buyer))
    assert [quote["provider"] for quote in found] == [owner]

    settings = home / "gpubond.toml"
    text = settings.read_text()
    assert text.count(f"dev_account = {OPERATOR}\n") == 1
    settings.write_text(text.replace(f"dev_account = {OPERATOR}\n", f"dev_account = {NEW_OPERATOR}\n"))
    plan = market.ok("provider", "join", "--home", str(home), "--dry-run")["calls"]
    words = [call["words"].split()[0] for call in plan]
    assert words == ["replace", "end", "end", "end", "offer"]
    done = market.ok("provider", "join", "--home", str(home), "--yes")["calls"]
    assert [call["words"] for call in done][:4] == [call["words"] for call in plan][:4]

    def hire(offer: Offer) -> Call:
        order = (b"\1" * 32, 1, 1, max(1, offer.shortest_run), bytes(32), 0, bytes(32), bytes(32), bytes(32))
        escrow = market.contracts.escrow
        data = escrow.encode_abi("hire", args=[offer.as_tuple(), order])
        return Call("hire", str(escrow.address), data)

    with open_session(buyer) as session:
        with pytest.raises(Refused, match="offer not open"):
            session.send(hire(trap), "hire")
        session.sync()
        standing = [record.offer for record in session.index.open_offers() if record.offer.provider == owner]
        assert [offer.class_name for offer in standing] == ["cpu-sim"]
    found = market.ok("job", "quote", "--seconds", "60", "--home", str(buyer))
    assert [quote["available"] for quote in found] == [True]
    # All is as the settings say now.
    assert market.ok("provider", "join", "--home", str(home), "--yes")["calls"] == []
