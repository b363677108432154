# SPDX-License-Identifier: Apache-2.0
"""Scenarios of rights: whose they are when one contract calls another."""

from __future__ import annotations

from typing import Any

from .world import ROOT, World


def rights_are_not_lent(w: World) -> None:
    """Who calls a stranger's contract lends it nothing: the sender of a call counts, not who signed for it."""
    e, s = w.escrow, w.staking
    offer = w.post("offer", w.offer(count=9))
    running = w.hire("running", offer, on="offer")
    done = w.hire("done", offer, on="offer")
    commitment = w.commit("done", done, on="offer")
    result = {"result_root": ROOT, "chunks": 5, "exit_status": 0, "seconds_used": 1, "tasks_done": 7}
    request = w.post_request("request", w.request(provider=w["owner"]))
    for signer in ("owner", "operator", "buyer", "admin", "arbiter"):
        with w.chain.signed_by(w[signer]):
            for reason, contract, function, *args in (
                ("escrow: not owner or operator", e, "commit", running, *result.values()),
                ("escrow: not owner or operator", e, "commit_many", [{"terms": running} | result]),
                ("escrow: not owner or operator", e, "decline", running, False),
                ("escrow: not owner or operator", e, "decline_many", [running], False),
                ("escrow: not owner or operator", e, "post_offer", w.offer(count=8)),
                ("escrow: not owner or operator", e, "close_offer", offer),
                ("escrow: not owner or operator", e, "accept", request, w.bid()),
                ("escrow: challenge window is open", e, "settle", done, commitment),
                ("escrow: not the buyer", e, "cancel_request", request),
                ("escrow: not the buyer", e, "post_request", w.request()),
                ("escrow: not the arbiter", e, "hold", done, commitment),
                ("escrow: not enough balance", e, "hire", offer, w.order()),
                ("escrow: not enough balance", e, "withdraw", 1, w["thief"]),
                ("ownable: caller is not the owner", e, "set_paused", True),
                ("ownable: caller is not the owner", e, "set_fee", 1),
                ("staking: not registered", s, "set_operator", w["thief"]),
                ("staking: not owner or operator", s, "set_endpoint", w["owner"], ""),
                ("staking: not enough free stake", s, "withdraw", 1, w["thief"]),
            ):  # fmt: skip
                w.refused(reason, contract, function, *args, by="thief")
    w.check()


SCENARIOS: tuple[Any, ...] = (rights_are_not_lent,)
