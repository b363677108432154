# SPDX-License-Identifier: Apache-2.0
"""Scenarios of balances, offers, hires, requests and the admin."""

from __future__ import annotations

from typing import Any

from eth_account import Account
from eth_utils.crypto import keccak

from tests.unit.reference import ATTESTED, BASIC, CANCELLED, EXACT, OPEN, REPLICATED, highest_price

from .world import ALLOWED, DAY, EMPTY, EXACT_TERMS, PER_JOB, ZERO, Struct, World

MAX_UINT128 = 2**128 - 1
MAX_TASKS = 2**32 - 1


def balances(w: World) -> None:
    """Money comes into balances and goes out again."""
    e = w.escrow
    w.refused("escrow: amount is zero", e, "deposit", 0, by="buyer")
    w.refused("escrow: account is zero", e, "deposit", 1, ZERO, by="buyer")
    w.refused("escrow: account is the escrow", e, "deposit", 1, w["escrow"], by="buyer")
    w.step(
        e, "deposit", 9, by="thief",
        moves={("balance", "thief"): 9, ("tokens", "thief"): -9, ("tokens", "escrow"): 9},
        events=[(e, "Deposited", {"account": w["thief"], "payer": w["thief"], "amount": 9})],
    )  # fmt: skip
    w.step(
        e, "deposit", 8, w["rival"], by="buyer",
        moves={("balance", "rival"): 8, ("tokens", "buyer"): -8, ("tokens", "escrow"): 8},
        events=[(e, "Deposited", {"account": w["rival"], "payer": w["buyer"], "amount": 8})],
    )  # fmt: skip
    w.refused("escrow: amount is zero", e, "withdraw", 0, by="rival")
    w.refused("escrow: receiver is zero", e, "withdraw", 1, ZERO, by="rival")
    w.refused("escrow: receiver is the escrow", e, "withdraw", 1, w["escrow"], by="rival")
    w.refused("escrow: not enough balance", e, "withdraw", 9, by="rival")
    w.step(
        e, "withdraw", 7, by="rival",
        moves={("balance", "rival"): -7, ("tokens", "rival"): 7, ("tokens", "escrow"): -7},
        events=[(e, "Withdrawn", {"account": w["rival"], "receiver": w["rival"], "amount": 7})],
    )  # fmt: skip
    w.step(
        e, "withdraw", 1, w["receiver"], by="rival",
        moves={("balance", "rival"): -1, ("tokens", "receiver"): 1, ("tokens", "escrow"): -1},
        events=[(e, "Withdrawn", {"account": w["rival"], "receiver": w["receiver"], "amount": 1})],
    )  # fmt: skip
    w.refused("staking: nothing owed", e, "collect_slashes", by="keeper")
    # A balance has 128 bits, and nothing beyond them.
    assert w.chain.call(w.token, "mint", w["thief"], 2 * MAX_UINT128, sender=w["admin"]).ok
    w.known["tokens", "thief"] += 2 * MAX_UINT128
    w.refused("escrow: amount too large", e, "deposit", MAX_UINT128 - 8, by="thief")
    w.refused("escrow: amount too large", e, "deposit", 2 * MAX_UINT128 - 100, by="thief")
    most = MAX_UINT128 - 9
    w.step(
        e, "deposit", most, by="thief",
        moves={("balance", "thief"): most, ("tokens", "thief"): -most, ("tokens", "escrow"): most},
    )  # fmt: skip
    w.refused("escrow: amount too large", e, "deposit", 1, w["thief"], by="buyer")
    w.step(
        e, "withdraw", MAX_UINT128, by="thief",
        moves={
            ("balance", "thief"): -MAX_UINT128, ("tokens", "thief"): MAX_UINT128, ("tokens", "escrow"): -MAX_UINT128,
        },
    )  # fmt: skip


def tokens(w: World) -> None:
    """Tokens that refuse, keep a fee or give more than was sent."""
    e, t = w.escrow, w.token
    for function, args, reason in (
        ("set_returns_false", (True,), "escrow: transfer failed"),
        ("set_fee_bps", (1_000,), "escrow: token takes a fee"),
        ("set_callback", w.gift("escrow"), "escrow: token takes a fee"),
    ):
        with w.branch():
            assert w.chain.call(t, function, *args, sender=w["admin"]).ok
            w.refused(reason, e, "deposit", 500, by="buyer")
            if function == "set_returns_false":
                w.refused(reason, e, "withdraw", 500, by="buyer")
                w.refused(reason, e, "deposit_with_permit", 500, 0, 27, EMPTY, EMPTY, by="buyer")


def permits(w: World) -> None:
    """A permit makes an allowance; one that is refused stops nothing if there is an allowance."""
    e = w.escrow
    signer = Account.from_key(keccak(text="signer"))
    w.accounts["signer"] = signer.address.lower()
    w.look()
    if ("permit", 7) not in w.token.functions:
        # This token has none: the allowance of before counts.
        w.step(
            e, "deposit_with_permit", 55, 0, 27, EMPTY, EMPTY, by="buyer",
            moves={("balance", "buyer"): 55, ("tokens", "buyer"): -55, ("tokens", "escrow"): 55},
            events=[(e, "Deposited", {"account": w["buyer"], "payer": w["buyer"], "amount": 55})],
        )  # fmt: skip
        del w.accounts["signer"]
        return
    assert w.chain.call(w.token, "faucet", 1_000, w["signer"], sender=w["admin"]).ok
    w.known["tokens", "signer"] += 1_000
    domain = {"name": "GpuBond Test USD", "version": "1", "chainId": 1, "verifyingContract": w["token"]}
    names = ("owner", "spender", "value", "nonce", "deadline")
    kinds = ("address", "address", "uint256", "uint256", "uint256")
    types = {"Permit": [{"name": name, "type": kind} for name, kind in zip(names, kinds, strict=True)]}
    deadline = w.now + 7
    values = dict(zip(names, (w["signer"], w["escrow"], 400, 0, deadline), strict=True))
    signed = signer.sign_typed_data(domain, types, values)
    r, s = signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big")
    w.refused("erc20: insufficient allowance", e, "deposit_with_permit", 400, deadline, 27, r, r, by="signer")
    w.refused("erc20: insufficient allowance", e, "deposit_with_permit", 400, deadline, signed.v, r, s, by="keeper")
    w.step(
        e, "deposit_with_permit", 400, deadline, signed.v, r, s, by="signer",
        moves={("balance", "signer"): 400, ("tokens", "signer"): -400, ("tokens", "escrow"): 400},
        events=[(e, "Deposited", {"account": w["signer"], "payer": w["signer"], "amount": 400})],
    )  # fmt: skip
    w.check()
    del w.accounts["signer"]


def admin(w: World) -> None:
    """Pause, fee, ownership: by the admin alone, and nothing else in its power."""
    e = w.escrow
    no = "ownable: caller is not the owner"
    for account in ("thief", "owner"):
        w.refused(no, e, "set_paused", True, by=account)
        w.refused(no, e, "set_fee", 1, by=account)
        w.refused(no, e, "collect_fees", [w["owner"]], w["thief"], by=account)
        w.refused(no, e, "transfer_ownership", w["thief"], by=account)
    w.refused("escrow: fee above cap", e, "set_fee", 501, by="admin")
    config = ("config",)

    def set_fee(bps: int, paused: bool) -> None:
        after = (bps, paused, w["admin"], ZERO)
        w.step(e, "set_fee", bps, by="admin", sets={config: after}, events=[(e, "FeeSet", {"fee_bps": bps})])

    def pause(paused: bool, bps: int) -> None:
        after = (bps, paused, w["admin"], ZERO)
        w.step(e, "set_paused", paused, by="admin", sets={config: after}, events=[(e, "Paused", {"paused": paused})])

    offer = w.post("offer", w.offer())
    request = w.post_request("request", w.request())
    set_fee(500, False)
    pause(True, 500)
    pause(True, 500)
    set_fee(3, True)
    w.refused("escrow: new jobs are paused", e, "hire", offer, w.order(), by="buyer")
    w.refused("escrow: new jobs are paused", e, "accept", request, w.bid(), by="owner")
    w.check()
    pause(False, 3)
    set_fee(0, False)
    set_fee(499, False)
    w.accepted(e, "hire", offer, w.order(), by="buyer")
    w.accepted(e, "accept", request, w.bid(max_fee_bps=499), by="owner")
    w.refused("escrow: fee above bid's limit", e, "accept", request, w.bid(max_fee_bps=498), by="owner")
    set_fee(500, False)
    w.refused("escrow: fee above offer's limit", e, "hire", offer, w.order(), by="buyer")

    w.refused("escrow: no fees", e, "collect_fees", [w["owner"]], w["receiver"], by="admin")
    w.refused("escrow: no fees", e, "collect_fees", [], w["receiver"], by="admin")
    w.refused("escrow: receiver is zero", e, "collect_fees", [w["owner"]], ZERO, by="admin")
    w.refused("escrow: receiver is the escrow", e, "collect_fees", [w["owner"]], w["escrow"], by="admin")
    w.step(e, "transfer_ownership", w["rival"], by="admin", sets={config: (500, False, w["admin"], w["rival"])})
    w.refused("ownable_2step: caller is not the new owner", e, "accept_ownership", by="thief")
    w.step(e, "accept_ownership", by="rival", sets={config: (500, False, w["rival"], ZERO)})
    w.refused(no, e, "set_fee", 1, by="admin")
    assert w.read(e, "MAX_FEE_BPS") == 500
    assert w.read(e, "DISPUTE_TIMEOUT") == 7 * DAY
    assert w.read(e, "EXACT_DISPUTE_TIMEOUT") == 90 * DAY
    assert w.read(e, "TOKEN") == w.read(w.staking, "TOKEN") == w["token"]
    assert w.read(e, "STAKING") == w["staking"]


# Fields that offers and requests share: one that is refused, the reason, the nearest that is accepted.
BOUNDS: tuple[tuple[Struct, str, Struct], ...] = (
    ({"resource_class": EMPTY}, "class is empty", {}),
    ({"longest_run": 366 * DAY + 1, "shortest_run": 1}, "longest run too long", {"longest_run": 366 * DAY}),
    ({"acknowledge_window": 59}, "window too short", {"acknowledge_window": 60}),
    ({"acknowledge_window": DAY + 1}, "window too long", {"acknowledge_window": DAY}),
    ({"delivery_margin": 90 * DAY + 1}, "window too long", {"delivery_margin": 90 * DAY}),
    ({"delivery_margin": 90 * DAY + 1}, "window too long", {"delivery_margin": 0}),
    ({"challenge_window": 90 * DAY + 1}, "window too long", {"challenge_window": 90 * DAY}),
    ({"challenge_window": 0}, "no challenge window", {"challenge_window": 1}),
    ({"failure_cap_bps": 10_001}, "failure cap too high", {"failure_cap_bps": 10_000}),
    ({"failure_cap_bps": 10_001}, "failure cap too high", {"failure_cap_bps": 0}),
    ({"collateral": 0}, "collateral is zero", {"collateral": 1}),
    ({"arbiter": ZERO}, "EXACT without arbiter", {"arbiter": ZERO, "tiers": BASIC, "tier": BASIC}),
    (
        {"arbiter": ZERO},
        "EXACT without arbiter",
        {"challenge_window": 0, "arbiter": ZERO, "tier": BASIC, "tiers": BASIC},
    ),
)


def check_bounds(w: World, function: str, base: Struct, by: str, cases: tuple[tuple[Struct, str, Struct], ...]) -> None:
    """Each refusal beside the nearest that is accepted. Changes of fields that the struct lacks are left out."""
    for wrong, reason, right in cases:
        changed = base | {name: value for name, value in wrong.items() if name in base}
        w.refused(f"escrow: {reason}", w.escrow, function, changed, by=by)
        w.accepted(w.escrow, function, base | {name: value for name, value in right.items() if name in base}, by=by)


def offers(w: World) -> None:
    """Offers: their bounds, posting, closing, the approval of arbiters, which holds for hires as well."""
    e, s = w.escrow, w.staking
    base = w.offer()
    check_bounds(w, "post_offer", base, "owner", BOUNDS)
    check_bounds(w, "post_offer", base, "operator", (
        ({"count": 0}, "count is zero", {"count": 1}),
        ({"price_per_second": 0}, "price is zero", {"price_per_second": 1}),
        ({"shortest_run": 3_602}, "shortest above longest", {"shortest_run": 3_601}),
        ({"shortest_run": 0, "longest_run": 0}, "longest run is zero", {"shortest_run": 0, "longest_run": 1}),
        ({"expiry": w.now}, "offer has expired", {"expiry": w.now + 1}),
        ({"expiry": w.now - 1}, "offer has expired", {"expiry": 2**200}),
        ({"tiers": 0}, "no tier", {"tiers": BASIC}),
        ({"tiers": BASIC | REPLICATED}, "tier not open yet", {"tiers": EXACT}),
        ({"tiers": EXACT | ATTESTED}, "tier not open yet", {"tiers": EXACT | BASIC}),
        ({"tiers": ATTESTED}, "tier not open yet", {}),
        ({"longest_run": 2**10, "price_per_second": 2**118}, "price too high",
         {"longest_run": 2**10, "price_per_second": 2**118 - 1}),
        ({"price_per_second": 2**255}, "price too high", {"price_per_second": 1}),
        ({"longest_run": 2, "shortest_run": 1, "price_per_second": 2**255}, "price too high", {}),
        ({"longest_run": 1, "shortest_run": 1, "price_per_second": MAX_UINT128 + 1}, "price too high", {}),
        ({"longest_run": 100, "price_per_second": MAX_UINT128}, "price too high",
         {"longest_run": 1, "shortest_run": 0, "price_per_second": MAX_UINT128}),
        ({"arbiter": w["locker"]}, "arbiter not approved", {"arbiter": w["demands"]}),
    ))  # fmt: skip
    for account in ("buyer", "rival"):
        w.refused("escrow: not owner or operator", e, "post_offer", base, by=account)
    w.refused("escrow: not owner or operator", e, "post_offer", w.offer(provider=w["rival"]), by="rival")
    offer = w.post("offer", base)
    w.refused("escrow: offer already open", e, "post_offer", offer, by="owner")
    w.refused("escrow: not owner or operator", e, "close_offer", offer, by="rival")
    w.refused("escrow: offer not open", e, "close_offer", w.offer(count=9), by="owner")
    w.hire("job", offer, on="offer")
    closed = (e, "OfferClosed", {"offer_id": w.offers["offer"], "provider": w["owner"]})
    w.step(e, "close_offer", offer, by="operator", sets={("offer", "offer"): 1}, events=[closed])
    w.refused("escrow: offer not open", e, "close_offer", offer, by="owner")
    w.refused("escrow: offer not open", e, "hire", offer, w.order(), by="buyer")
    w.known["offer", "offer"] = 1
    w.post("offer", offer, by="owner")
    w.check()

    # An arbiter is named by the provider's owner, for itself alone; its offers stay as they are.
    w.refused("escrow: arbiter is no contract", e, "approve_arbiter", w["thief"], True, by="owner")
    w.accepted(e, "approve_arbiter", w["thief"], False, by="owner")
    for account, approved in (("rival", True), ("owner", False)):
        fields = {"provider": w[account], "arbiter": w["arbiter"], "approved": approved}
        w.step(
            e, "approve_arbiter", w["arbiter"], approved, by=account,
            sets={("approved", account, "arbiter"): approved}, events=[(e, "ArbiterApproved", fields)],
        )  # fmt: skip
    w.refused("escrow: arbiter not approved", e, "post_offer", w.offer(count=8), by="owner")
    w.refused("escrow: arbiter not approved", e, "hire", offer, w.order(), by="buyer")
    plain = w.post("plain", w.offer(arbiter=ZERO, tiers=BASIC))
    w.accepted(e, "hire", plain, w.order(), by="buyer")
    assert w.read(s, "is_operator", w["owner"], w["operator"])


def hires(w: World) -> None:
    """Hires: their bounds, places, money and collateral."""
    e = w.escrow
    offer = w.post("offer", w.offer(tiers=BASIC | EXACT))
    order = w.order()
    exact: Struct = {"tier": EXACT, "exact_terms": EXACT_TERMS, "tasks": 1}
    for wrong, reason, right in (
        ({"spec_hash": EMPTY}, "spec hash is empty", {}),
        ({"longest_run": 0}, "longest run is zero", {}),
        ({"longest_run": 60}, "run below offer", {"longest_run": 61}),
        ({"longest_run": 3_602}, "longest run beyond offer", {"longest_run": 3_601}),
        ({"tasks": 0}, "no tasks", {"tasks": 1}),
        ({"tasks": MAX_TASKS + 1}, "too many tasks", {"tasks": MAX_TASKS}),
        ({"audit_fee": 1}, "audits not open yet", {}),
        ({"audit_seal": b"\x01" * 32}, "audits not open yet", {}),
        ({"tier": REPLICATED}, "tier not offered", exact),
        ({"tier": ATTESTED}, "tier not offered", {}),
        ({"tier": 0}, "tier not offered", {}),
        ({"tier": BASIC | EXACT}, "tier not offered", {}),
        ({"tier": EXACT}, "exact terms and tier", exact),
        ({"exact_terms": EXACT_TERMS}, "exact terms and tier", exact),
        (exact | {"tasks": 2}, "EXACT is one run", exact),
    ):
        w.refused(f"escrow: {reason}", e, "hire", offer, order | wrong, by="buyer")
        w.accepted(e, "hire", offer, order | right, by="buyer")
    basic = w.post("basic", w.offer(tiers=BASIC))
    only = w.post("only", w.offer(tiers=EXACT))
    w.refused("escrow: tier not offered", e, "hire", basic, order | exact, by="buyer")
    w.refused("escrow: tier not offered", e, "hire", only, order, by="buyer")
    anytime = w.post("anytime", w.offer(shortest_run=0))
    w.refused("escrow: longest run is zero", e, "hire", anytime, w.order(longest_run=0), by="buyer")
    w.refused("escrow: offer not open", e, "hire", w.offer(count=2), order, by="buyer")
    # Another salt, group or number of tasks is another job.
    job = w.hire("job", offer, on="offer", salt=b"\x09" * 32, group=b"\x08" * 32, tasks=3)
    same = order | {"salt": b"\x09" * 32, "group": b"\x08" * 32, "tasks": 3}
    w.refused("escrow: job exists", e, "hire", offer, same, by="buyer")
    for change in ({"salt": EMPTY}, {"group": EMPTY}, {"tasks": 4}, {"spec_hash": b"\x0a" * 32}):
        w.accepted(e, "hire", offer, same | change, by="buyer")
    assert job["acknowledge_by"] == w.now + 901
    w.hire("exact", offer, on="offer", **exact)
    w.hire("third", offer, on="offer")
    w.refused("escrow: offer fully used", e, "hire", offer, w.order(), by="buyer")
    w.refused("escrow: not enough balance", e, "hire", basic, w.order(), by="thief")
    cost = 3_001 * 1_003
    assert w.chain.call(w.escrow, "deposit", cost - 1, w["thief"], sender=w["buyer"]).ok
    w.refused("escrow: not enough balance", e, "hire", basic, w.order(), by="thief")
    assert w.chain.call(w.escrow, "deposit", 1, w["thief"], sender=w["buyer"]).ok
    w.look()
    w.hire("thief's", basic, on="basic", by="thief")

    # Collateral: per job, and in all.
    dear = w.post("dear", w.offer(collateral=PER_JOB + 1))
    w.refused("staking: above allowance per job", e, "hire", dear, w.order(), by="buyer")
    locked = w.known["allowance", "owner", "escrow"][2]
    left = ALLOWED - locked
    most = w.post("most", w.offer(collateral=PER_JOB, count=9))
    for index in range(left // PER_JOB):
        w.hire(f"most {index}", most, on="most")
    rest = left % PER_JOB
    above = w.post("above", w.offer(collateral=rest + 1))
    w.refused("staking: above allowance", e, "hire", above, w.order(), by="buyer")
    exactly = w.post("exactly", w.offer(collateral=rest))
    w.accepted(e, "hire", exactly, w.order(), by="buyer")
    w.at(offer["expiry"] - 1)
    w.accepted(e, "hire", exactly, w.order(), by="buyer")
    w.at(offer["expiry"])
    w.refused("escrow: offer has expired", e, "hire", exactly, w.order(), by="buyer")
    w.at(offer["expiry"] + 1)
    w.refused("escrow: offer has expired", e, "hire", exactly, w.order(), by="buyer")


def requests(w: World) -> None:
    """Requests: their bounds, who may accept and cancel them, and their money."""
    e = w.escrow
    base = w.request()
    exact: Struct = {"tier": EXACT, "exact_terms": EXACT_TERMS, "tasks": 1}
    check_bounds(w, "post_request", base | exact, "buyer", tuple(
        (wrong, reason, right | {"exact_terms": EMPTY} if right.get("tier") == BASIC else right)
        for wrong, reason, right in BOUNDS
    ))  # fmt: skip
    check_bounds(w, "post_request", base, "buyer", (
        ({"spec_hash": EMPTY}, "spec hash is empty", {}),
        ({"tasks": 0}, "no tasks", {"tasks": 1}),
        ({"tasks": MAX_TASKS + 1}, "too many tasks", {"tasks": MAX_TASKS}),
        ({"price": 0}, "not one price", {"price": 1}),
        ({"price_per_second": 1}, "not one price", {"price": 0, "price_per_second": 1}),
        ({"longest_run": 0}, "longest run is zero", {"longest_run": 1}),
        ({"expiry": w.now}, "request has expired", {"expiry": w.now + 1}),
        ({"expiry": w.now - 1}, "request has expired", {}),
        ({"expiry": w.now + 90 * DAY + 1}, "expiry too late", {"expiry": w.now + 90 * DAY}),
        ({"audit_fee": 1}, "audits not open yet", {}),
        ({"audit_seal": b"\x01" * 32}, "audits not open yet", {}),
        ({"tier": 0}, "tier not open yet", exact),
        ({"tier": REPLICATED}, "tier not open yet", {}),
        ({"tier": ATTESTED}, "tier not open yet", {}),
        ({"tier": BASIC | EXACT}, "tier not open yet", {}),
        ({"tier": EXACT}, "exact terms and tier", exact),
        ({"exact_terms": EXACT_TERMS}, "exact terms and tier", {}),
        (exact | {"tasks": 2}, "EXACT is one run", exact),
        ({"price": MAX_UINT128 + 1}, "price too high", {}),
        ({"price": 2**256 - 1}, "price too high", {}),
        ({"price": 0, "price_per_second": 2**256 - 1}, "price too high", {}),
        ({"price": 0, "price_per_second": 2**118, "longest_run": 2**10}, "price too high",
         {"price": 0, "price_per_second": 1, "longest_run": 2**10}),
    ))  # fmt: skip
    w.refused("escrow: not the buyer", e, "post_request", base, by="thief")
    w.refused("escrow: not enough balance", e, "post_request", w.request(price=MAX_UINT128), by="buyer")
    balance = w.known["balance", "buyer"]
    w.refused("escrow: not enough balance", e, "post_request", w.request(price=balance + 1), by="buyer")
    w.accepted(e, "post_request", w.request(price=balance), by="buyer")

    w.at(w.now + 1)
    first = w.post_request("first", base)
    w.refused("escrow: request exists", e, "post_request", base, by="buyer")
    for change in ({"salt": EMPTY}, {"group": EMPTY}, {"provider": w["owner"]}, {"collateral": 1}):
        w.accepted(e, "post_request", base | change, by="buyer")
    second = w.post_request("second", w.request(price=0, price_per_second=1_001, provider=w["owner"]))
    rivals = w.post_request("rival's", w.request(provider=w["rival"]))
    exact_one = w.post_request("exact", w.request(**exact))

    # Who may accept, and at what.
    for account in ("buyer", "rival"):
        w.refused("escrow: not owner or operator", e, "accept", first, w.bid(), by=account)
    w.refused("escrow: not for this provider", e, "accept", rivals, w.bid(), by="owner")
    w.refused("escrow: request not open", e, "accept", w.request(), w.bid(), by="owner")
    w.refused("escrow: price is zero", e, "accept", first, w.bid(price=0), by="owner")
    w.refused("escrow: price above request", e, "accept", first, w.bid(price=4_000_002), by="owner")
    w.refused("escrow: price above request", e, "accept", second, w.bid(price=1_002), by="owner")
    w.refused("escrow: fee above bid's limit", e, "accept", first, w.bid(max_fee_bps=249), by="owner")
    w.accepted(e, "accept", first, w.bid(max_fee_bps=250), by="owner")
    w.accepted(e, "accept", first, w.bid(price=4_000_001), by="owner")
    w.accepted(e, "accept", second, w.bid(price=1_001), by="owner")
    w.accepted(e, "accept", first, w.bid(price=1), by="owner")
    for name, reason in (("locker", "escrow: arbiter not approved"), ("arbiter", "")):
        asked = w.post_request(name, w.request(arbiter=w[name], salt=name.encode().ljust(32)))
        if reason:
            w.refused(reason, e, "accept", asked, w.bid(), by="owner")
        else:
            w.accepted(e, "accept", asked, w.bid(), by="owner")
    free = w.post_request("free", w.request(arbiter=ZERO, challenge_window=0))
    w.accepted(e, "accept", free, w.bid(), by="owner")
    dear = w.post_request("dear", w.request(collateral=PER_JOB + 1))
    w.refused("staking: above allowance per job", e, "accept", dear, w.bid(), by="owner")
    w.check()

    w.at(w.now + 17)
    w.accept("first job", first, of="first")
    w.accept("second job", second, of="second", by="owner", price=900)
    w.accept("exact job", exact_one, of="exact", price=4_000_001)
    for request in (first, second):
        w.refused("escrow: request not open", e, "accept", request, w.bid(price=1), by="owner")
        w.refused("escrow: request not open", e, "cancel_request", request, by="buyer")
        w.refused("escrow: request exists", e, "post_request", request, by="buyer")

    def cancel(name: str, request: Struct, by: str) -> None:
        w.step(
            e, "cancel_request", request, by=by,
            moves={("balance", "buyer"): highest_price(request), ("request", name): CANCELLED - OPEN},
            events=[(e, "RequestCancelled", {"request_id": w.requests[name], "buyer": w["buyer"]})],
        )  # fmt: skip

    late = w.post_request("late", w.request(price=0, price_per_second=77, expiry=w.now + 100))
    for account in ("thief", "owner"):
        w.refused("escrow: not the buyer", e, "cancel_request", rivals, by=account)
    cancel("rival's", rivals, by="buyer")
    w.refused("escrow: request not open", e, "cancel_request", rivals, by="buyer")
    w.refused("escrow: request not open", e, "accept", rivals | {"provider": w["owner"]}, w.bid(), by="owner")
    w.refused("escrow: request exists", e, "post_request", rivals, by="buyer")
    w.at(late["expiry"] - 1)
    w.refused("escrow: not the buyer", e, "cancel_request", late, by="thief")
    w.accepted(e, "accept", late, w.bid(price=77), by="owner")
    w.at(late["expiry"])
    w.refused("escrow: request has expired", e, "accept", late, w.bid(price=77), by="owner")
    with w.branch():
        w.at(late["expiry"] + 1)
        w.refused("escrow: request has expired", e, "accept", late, w.bid(price=77), by="owner")
        w.accepted(e, "cancel_request", late, by="thief")
    cancel("late", late, by="thief")
    w.check()
    # Without an operator of its own nobody accepts for a stranger.
    w.refused("escrow: not owner or operator", e, "accept", free, w.bid(provider=w["rival"]), by="rival")


def job_exists(w: World) -> None:
    """Two acceptances that would make one and the same job: the second is refused."""
    # The terms have neither expiry nor class, so two requests can differ and yet make the same job.
    first = w.post_request("first", w.request(salt=b"\x01" * 32))
    second = w.post_request("second", w.request(salt=b"\x01" * 32, expiry=w.now + 2 * DAY))
    w.accept("job", first, of="first")
    w.refused("escrow: job exists", w.escrow, "accept", second, w.bid(), by="owner")
    w.accepted(w.escrow, "accept", second, w.bid(price=9), by="owner")


SCENARIOS: tuple[Any, ...] = (balances, tokens, permits, admin, offers, hires, requests, job_exists)
