# SPDX-License-Identifier: Apache-2.0
"""Every function of docs/TECH_SPEC.md with the refusals in its row, in words as the contracts say them."""

from __future__ import annotations


def _say(contract: str, *reasons: str) -> list[str]:
    return [f"{contract}: {reason}" for reason in reasons]


_TRANSFER_IN = ("transfer failed", "token takes a fee")
_BOUNDS = _say(
    "escrow",
    "longest run is zero",
    "longest run too long",
    "window too short",
    "window too long",
    "failure cap too high",
    "collateral is zero",
    "price too high",
)
_LOCK = _say("staking", "above allowance per job", "above allowance")
_BLOCKED = ["token: account is blocked"]
_ADMIN = ["ownable: caller is not the owner"]
_RECEIVER = ("receiver is zero", "receiver is the escrow")

_HIRE = [
    *_say(
        "escrow",
        "new jobs are paused",
        "offer has expired",
        "fee above offer's limit",
        "spec hash is empty",
        "longest run is zero",
        "run below offer",
        "longest run beyond offer",
        "no tasks",
        "too many tasks",
        "audits not open yet",
        "tier not offered",
        "exact terms and tier",
        "EXACT is one run",
        "arbiter not approved",
        "offer not open",
        "offer fully used",
        "not enough balance",
        "job exists",
    ),
    *_LOCK,
]
_COMMIT = _say(
    "escrow",
    "wrong state",
    "not owner or operator",
    "too late to commit",
    "result root is empty",
    "more done than hired",
    "an exact job cannot fail",
    "chunks on EXACT",
    "no chunks",
    "too many chunks",
)

REASONS: dict[str, list[str]] = {
    "staking.register": _say("staking", "already registered", "operator is zero"),
    "staking.set_operator": _say("staking", "not registered", "operator is zero"),
    "staking.set_endpoint": _say("staking", "not owner or operator"),
    "staking.stake": _say(
        "staking", "amount is zero", "provider is zero", "provider is the staking contract", *_TRANSFER_IN
    )
    + _BLOCKED,
    "staking.withdraw": _say(
        "staking",
        "amount is zero",
        "receiver is zero",
        "receiver is the staking contract",
        "not enough free stake",
        "transfer failed",
    )
    + _BLOCKED,
    "staking.allow": _say(
        "staking", "locker is no contract", "per job above total", "amount too large", "not enough free stake"
    ),
    "staking.lock": [*_say("staking", "amount is zero"), *_LOCK],
    "staking.unlock": _say("staking", "not locked"),
    "staking.slash": _say("staking", "amount is zero", "not locked", "shares above lock"),
    "staking.collect": _say("staking", "nothing owed", "transfer failed") + _BLOCKED,
    "escrow.deposit": _say("escrow", "amount is zero", "account is zero", "account is the escrow", *_TRANSFER_IN)
    + _BLOCKED,
    "escrow.deposit_with_permit": _say("escrow", "amount is zero", *_TRANSFER_IN) + _BLOCKED,
    "escrow.withdraw": _say("escrow", "amount is zero", *_RECEIVER, "not enough balance", "transfer failed") + _BLOCKED,
    "escrow.collect_slashes": ["staking: nothing owed", "staking: transfer failed", "escrow: token takes a fee"],
    "escrow.collect_fees": _ADMIN + _say("escrow", "no fees", *_RECEIVER, "transfer failed") + _BLOCKED,
    "escrow.approve_arbiter": _say("escrow", "arbiter is no contract"),
    "escrow.revoke_offers": [],
    "escrow.post_offer": _say(
        "escrow",
        "not owner or operator",
        "class is empty",
        "count is zero",
        "price is zero",
        "shortest above longest",
        "offer has expired",
        "no tier",
        "tier not open yet",
        "arbiter not approved",
        "no challenge window",
        "EXACT without arbiter",
        "offer already open",
    )
    + _BOUNDS,
    "escrow.close_offer": _say("escrow", "not owner or operator", "offer not open"),
    "escrow.hire": _HIRE,
    "escrow.hire_many": _HIRE,
    "escrow.post_request": _say(
        "escrow",
        "not the buyer",
        "class is empty",
        "spec hash is empty",
        "no tasks",
        "too many tasks",
        "not one price",
        "request has expired",
        "expiry too late",
        "audits not open yet",
        "tier not open yet",
        "exact terms and tier",
        "EXACT is one run",
        "no challenge window",
        "EXACT without arbiter",
        "request exists",
        "not enough balance",
    )
    + _BOUNDS,
    "escrow.cancel_request": _say("escrow", "request not open", "not the buyer"),
    "escrow.accept": _say(
        "escrow",
        "new jobs are paused",
        "not owner or operator",
        "not for this provider",
        "request has expired",
        "fee above bid's limit",
        "price is zero",
        "arbiter not approved",
        "price above request",
        "request not open",
        "job exists",
    )
    + _LOCK,
    "escrow.decline": _say("escrow", "wrong state", "not owner or operator", "too late to decline"),
    "escrow.decline_many": _say("escrow", "not owner or operator"),
    "escrow.commit": _COMMIT,
    "escrow.commit_many": _COMMIT,
    "escrow.settle": _say(
        "escrow", "wrong state", "job is disputed", "challenge window is open", "not what was committed"
    ),
    "escrow.settle_many": [],
    "escrow.expire": _say("escrow", "wrong state", "not due yet"),
    "escrow.hold": _say(
        "escrow", "wrong state", "not the arbiter", "not what was committed", "challenge window is over"
    ),
    "escrow.release": _say("escrow", "wrong state", "not the arbiter"),
    "escrow.convict": _say(
        "escrow", "wrong state", "not the arbiter", "not what was committed", "dispute has timed out", "share above cap"
    ),
    "escrow.set_paused": _ADMIN,
    "escrow.set_fee": [*_ADMIN, "escrow: fee above cap"],
    "escrow.transfer_ownership": _ADMIN,
    "escrow.accept_ownership": ["ownable_2step: caller is not the new owner"],
    "demands.demand": _say(
        "demands",
        "not the buyer",
        "not on this tier",
        "nothing demanded",
        "no such chunk",
        "too many demands",
        "challenge window is over",
        "not what was committed",
        "job is not held",
        *_TRANSFER_IN,
    )
    + _say("escrow", "wrong state", "not the arbiter", "not what was committed", "challenge window is over")
    + _BLOCKED,
    "demands.answer": _say(
        "demands",
        "no such demand",
        "job is not held",
        "not what was committed",
        "too late to answer",
        "chunk is not 4096 bytes",
        "bundle of another size",
        "path of another length",
        "chunk is not of the result",
    ),
    "demands.expire": _say("demands", "no such demand", "not due yet")
    + _say("escrow", "wrong state", "not what was committed", "dispute has timed out"),
    "demands.reclaim": _say("demands", "no such demand", "job is not over"),
    "demands.collect": ["demands: nothing to collect", *_say("escrow", *_TRANSFER_IN), *_BLOCKED],
}
