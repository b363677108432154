# SPDX-License-Identifier: Apache-2.0
"""Scenarios of batches: many hires and many commitments in one transaction, all or none."""

from __future__ import annotations

from typing import Any

from tests.unit import reference
from tests.unit.reference import ACTIVE, BASIC, COMMITTED, DECLINED, EXACT

from .chain import ORIGIN, Deployed
from .world import EMPTY, EXACT_TERMS, ROOT, SPEC, Struct, World

MOST = 32


def hire_many(w: World) -> None:
    """Each order becomes a job of its own, as `hire` would make it; one that is refused takes all with it."""
    e = w.escrow
    offer = w.post("offer", w.offer(count=4, arbiter=w["demands"]))
    orders = [w.order(), w.order(tasks=2, longest_run=61), w.order(tier=EXACT, exact_terms=EXACT_TERMS, tasks=1)]
    terms = [
        reference.terms_of(
            offer, order, offer_id=w.offer_id(offer), buyer=w["buyer"], fee_bps=w.known["config",][0],
            matched_at=w.now,
        )
        for order in orders
    ]  # fmt: skip
    jobs = [w.job_id(each) for each in terms]
    total, per_job, locked = w.known["allowance", "owner", "escrow"]
    allowed = (total, per_job, locked + 3 * offer["collateral"])
    slot = ((w.chain.block + 1) << 16) | ACTIVE
    with w.branch():
        w.jobs |= {f"job {index}": job for index, job in enumerate(jobs)}
        w.step(
            e, "hire_many", offer, orders, by="buyer", returns=tuple(jobs),
            moves={("balance", "buyer"): -sum(map(reference.escrowed, terms)), ("offer", "offer"): 3},
            sets={("allowance", "owner", "escrow"): allowed} | {("job", f"job {index}"): slot for index in range(3)},
            events=[
                (e, "JobMatched", {"job": job, "buyer": w["buyer"], "provider": w["owner"], "terms": each})
                for job, each in zip(jobs, terms, strict=True)
            ],
        )  # fmt: skip
        w.check()
        # Four places: one is left.
        w.refused("escrow: offer fully used", e, "hire_many", offer, [w.order(), w.order()], by="buyer")
        w.accepted(e, "hire_many", offer, [w.order()], by="buyer")
        w.refused("escrow: job exists", e, "hire_many", offer, orders[:1], by="buyer")

    # The first that is refused takes the others with it; nothing of them is left.
    for wrong, reason in (
        ({"spec_hash": EMPTY}, "spec hash is empty"),
        ({"longest_run": 60}, "run below offer"),
        ({"tasks": 0}, "no tasks"),
        ({"audit_fee": 1}, "audits not open yet"),
        ({"exact_terms": EXACT_TERMS}, "exact terms and tier"),
        (orders[0], "job exists"),
    ):
        w.refused(f"escrow: {reason}", e, "hire_many", offer, [orders[0], w.order() | wrong], by="buyer")
    w.refused("escrow: not enough balance", e, "hire_many", offer, orders, by="thief")
    assert w.accepted(e, "hire_many", offer, [], by="thief").value == ()
    w.refused("escrow: offer not open", e, "hire_many", w.offer(count=2), orders, by="buyer")

    # What the offer itself must fulfil, also for no order at all.
    for shown in (orders, []):
        with w.branch():
            w.step(e, "approve_arbiter", w["demands"], False, by="owner")
            w.refused("escrow: arbiter not approved", e, "hire_many", offer, shown, by="buyer")
        with w.branch():
            w.step(e, "set_paused", True, by="admin")
            w.refused("escrow: new jobs are paused", e, "hire_many", offer, shown, by="buyer")
        with w.branch():
            w.step(e, "set_fee", offer["max_fee_bps"] + 1, by="admin")
            w.refused("escrow: fee above offer's limit", e, "hire_many", offer, shown, by="buyer")
        with w.branch():
            w.at(offer["expiry"])
            w.refused("escrow: offer has expired", e, "hire_many", offer, shown, by="buyer")
    w.check()
    many = w.post("many", w.offer(count=100, collateral=1))
    orders = [w.order(longest_run=61) for _ in range(MOST + 1)]
    assert len(set(w.accepted(e, "hire_many", many, orders[:MOST], by="buyer").value)) == MOST
    assert not _fits(w, "hire_many", 2, many, orders)


def decline_many(w: World) -> None:
    """Those of many jobs that can still be given back are; the others are passed over."""
    e = w.escrow
    offer = w.post("offer", w.offer(count=9))
    terms = [w.hire(f"job {index}", offer, on="offer") for index in range(3)]
    bag = w.accept("bag", w.post_request("request", w.request()), of="request")
    w.commit("job 2", terms[2], on="offer")
    unknown = terms[0] | {"salt": EMPTY, "acknowledge_by": 2**256 - 1}
    total, per_job, locked = w.known["allowance", "owner", "escrow"]
    given_back = {"job 0": terms[0], "job 1": terms[1], "bag": bag}
    kept = locked - sum(each["collateral"] for each in given_back.values())
    shown = [terms[0], unknown, terms[2], terms[1], bag, terms[0]]
    events: list[Any] = [(e, "JobDeclined", {"job": w.jobs[name], "provider": w["owner"]}) for name in given_back]
    closed = (e, "OfferClosed", {"offer_id": w.offers["offer"], "provider": w["owner"]})
    for close in (False, True):
        with w.branch():
            slot = w.known["offer", "offer"] - 2 - (close << 255)
            w.step(
                e, "decline_many", shown, close, by="operator", returns=3,
                moves={("balance", "buyer"): sum(map(reference.escrowed, given_back.values())),
                       ("declines", "owner"): 3}
                | {("job", name): DECLINED - ACTIVE for name in given_back},
                sets={("allowance", "owner", "escrow"): (total, per_job, kept), ("offer", "offer"): slot},
                events=[closed, *events] if close else events,
            )  # fmt: skip
            w.check()
            assert w.accepted(e, "decline_many", shown, close, by="owner").value == 0
    for account in ("buyer", "thief", "rival"):
        w.refused("escrow: not owner or operator", e, "decline_many", shown, False, by=account)
    assert w.accepted(e, "decline_many", [], True, by="thief").value == 0
    w.at(terms[0]["acknowledge_by"])
    assert w.accepted(e, "decline_many", shown, False, by="owner").value == 3
    w.at(terms[0]["acknowledge_by"] + 1)
    assert w.accepted(e, "decline_many", shown, False, by="owner").value == 1  # the request's window is longer
    w.at(bag["acknowledge_by"] + 1)
    assert w.accepted(e, "decline_many", shown, False, by="owner").value == 0
    assert w.accepted(e, "decline_many", [bag] * MOST, False, by="owner").value == 0
    assert not _fits(w, "decline_many", 2, [bag] * (MOST + 1), False)


def revoke_offers(w: World) -> None:
    """Offers posted before the owner revoked them are hired no more, whoever posted them."""
    e = w.escrow
    zero = "0x" + "00" * 20
    order = w.order()
    offer = w.post("offer", w.offer())
    plain = w.post("plain", w.offer(tiers=BASIC, arbiter=zero, count=5))
    job = w.hire("job", plain, on="plain")
    for arbiter, ended, open_still in (("arbiter", offer, plain), (None, plain, offer)):
        address = w[arbiter] if arbiter else zero
        with w.branch():
            w.step(
                e, "revoke_offers", address, by="owner",
                events=[(e, "OffersRevoked", {"provider": w["owner"], "arbiter": address})],
            )  # fmt: skip
            w.check()
            assert w.read(e, "offer_epoch", w["owner"], address) == 1
            w.refused("escrow: offer not open", e, "hire", ended, order, by="buyer")
            w.refused("escrow: offer not open", e, "hire_many", ended, [order], by="buyer")
            assert w.read(w.views, "refusal", ended, w["buyer"], 100) == "offer not open"
            w.accepted(e, "hire", open_still, order, by="buyer")
            w.refused("escrow: offer already open", e, "post_offer", open_still, by="owner")
            # Posted anew it has its epoch and keeps its places.
            taken = 1 if ended is plain else 0
            assert w.chain.call(e, "post_offer", ended, sender=w["operator"]).ok
            name = "plain" if ended is plain else "offer"
            w.known["offer", name] = (1 << 255) | (1 << 128) | taken
            w.check()
            state = w.read(w.views, "offer_state", w.offers[name])
            assert state == {"is_open": True, "epoch": 1, "active": taken}
            w.refused("escrow: offer already open", e, "post_offer", ended, by="owner")
            w.accepted(e, "hire", ended, order, by="buyer")
            if taken:
                w.commit("job", job, on="plain")
                w.check()
    # Nobody ends another's, and an approval is no epoch.
    for account in ("operator", "thief", "rival"):
        assert w.chain.call(e, "revoke_offers", w["arbiter"], sender=w[account]).ok
    w.step(e, "approve_arbiter", w["arbiter"], False, by="owner", sets={("approved", "owner", "arbiter"): False})
    w.refused("escrow: arbiter not approved", e, "hire", offer, order, by="buyer")
    w.step(e, "approve_arbiter", w["arbiter"], True, by="owner", sets={("approved", "owner", "arbiter"): True})
    w.accepted(e, "hire", offer, order, by="buyer")
    assert w.read(e, "offer_epoch", w["owner"], w["arbiter"]) == 0
    assert w.read(e, "offer_epoch", w["thief"], w["arbiter"]) == 1
    # Twice revoked, once approved: both are kept in one word.
    for epoch in (1, 2):
        w.step(e, "revoke_offers", w["arbiter"], by="owner")
        assert w.read(e, "offer_epoch", w["owner"], w["arbiter"]) == epoch
        assert w.read(e, "is_arbiter_approved", w["owner"], w["arbiter"])
    w.step(e, "approve_arbiter", w["arbiter"], False, by="owner", sets={("approved", "owner", "arbiter"): False})
    assert w.read(e, "offer_epoch", w["owner"], w["arbiter"]) == 2
    w.check()


def commit_many(w: World) -> None:
    """Each result is committed to as `commit` would; one that is refused takes all with it."""
    e = w.escrow
    offer = w.post("offer", w.offer(count=9))
    terms = [w.hire(f"job {index}", offer, on="offer") for index in range(2)]
    exact = w.hire("exact", offer, on="offer", tier=EXACT, exact_terms=EXACT_TERMS, tasks=1)
    bag = w.accept("bag", w.post_request("request", w.request()), of="request")
    w.at(w.now + 500)
    every: dict[str, Struct] = {
        "job 0": _result(terms[0], seconds_used=499),
        "job 1": _result(terms[1], result_root=SPEC, chunks=2**32, exit_status=3, tasks_done=0),
        "exact": _result(exact, chunks=0),
        "bag": _result(bag, tasks_done=3),
    }
    events, sets = [], {}
    for name, result in every.items():
        claim = {key: result[key] for key in ("exit_status", "seconds_used", "tasks_done")}
        pay = reference.pay(result["terms"], now=w.now, **claim)
        commitment = {
            "result_root": result["result_root"], "chunks": result["chunks"], "pay": pay, "committed_at": w.now,
        }  # fmt: skip
        slot = w.known["job", name] - ACTIVE + COMMITTED
        sets["job", name] = slot | (reference.digest(commitment) << 56)
        fields = {"job": w.jobs[name], "provider": w["owner"], "commitment": commitment} | claim
        events.append((e, "JobCommitted", fields))
    with w.branch():
        w.step(
            e, "commit_many", list(every.values()), by="operator", moves={("offer", "offer"): -3}, sets=sets,
            events=events,
        )  # fmt: skip
        w.check()
        w.refused("escrow: wrong state", e, "commit_many", list(every.values()), by="operator")

    good = every["job 0"]
    for wrong, reason in (
        (good, "wrong state"),
        (every["job 1"] | {"result_root": EMPTY}, "result root is empty"),
        (every["job 1"] | {"chunks": 0}, "no chunks"),
        (every["job 1"] | {"tasks_done": 8}, "more done than hired"),
        (every["exact"] | {"exit_status": 1}, "an exact job cannot fail"),
        (every["bag"] | {"terms": bag | {"price": 1}}, "wrong state"),
    ):
        w.refused(f"escrow: {reason}", e, "commit_many", [good, wrong], by="owner")
    for account in ("buyer", "thief", "rival"):
        w.refused("escrow: not owner or operator", e, "commit_many", [good], by=account)
    w.accepted(e, "commit_many", [], by="thief")
    w.check()
    with w.branch():
        w.at(terms[0]["deliver_by"])
        w.accepted(e, "commit_many", [good, every["job 1"]], by="owner")
        w.at(terms[0]["deliver_by"] + 1)
        w.refused("escrow: too late to commit", e, "commit_many", [every["bag"], good], by="owner")

    many = w.post("many", w.offer(count=100, collateral=1))
    results = [_result(w.hire(f"many {index}", many, on="many", longest_run=61)) for index in range(MOST + 1)]
    w.accepted(e, "commit_many", results[:MOST], by="operator")
    assert not _fits(w, "commit_many", 1, results)


def _result(terms: Struct, **changes: Any) -> Struct:
    whole = {"chunks": 5, "exit_status": 0, "seconds_used": 100, "tasks_done": terms["tasks"]}
    return {"terms": terms, "result_root": ROOT} | whole | changes


def _fits(w: World, function: str, inputs: int, *args: Any) -> bool:
    """Whether the ABI takes a list of such a length."""
    escrow: Deployed = w.escrow
    data = escrow.functions[function, inputs].call_data(list(args))
    with w.branch():
        ok, _, _ = w.chain.execute(escrow, data, ORIGIN, is_static=False)
    return bool(ok)


SCENARIOS: tuple[Any, ...] = (hire_many, decline_many, revoke_offers, commit_many)
