# SPDX-License-Identifier: Apache-2.0
"""Scenarios of jobs: decline, commit, settle, expire, disputes, and who may do what in which state."""

from __future__ import annotations

from typing import Any

from tests.unit import reference
from tests.unit.reference import (
    ACTIVE,
    BASIC,
    COMMITTED,
    DECLINED,
    DISPUTE_TIMEOUT,
    DISPUTED,
    EXACT,
    EXACT_DISPUTE_TIMEOUT,
)

from .chain import ORIGIN, Deployed
from .world import EMPTY, EXACT_TERMS, ROOT, USD, ZERO, Struct, World

EXACT_ORDER: Struct = {"tier": EXACT, "exact_terms": EXACT_TERMS, "tasks": 1}


def decline(w: World) -> None:
    """A job is given back in time, and the offer closes if wanted."""
    e = w.escrow
    offer = w.post("offer", w.offer())
    terms = w.hire("job", offer, on="offer")
    other = w.hire("other", offer, on="offer")
    asked = w.accept("asked", w.post_request("request", w.request()), of="request")
    for account in ("buyer", "rival", "thief"):
        w.refused("escrow: not owner or operator", e, "decline", terms, False, by=account)
    w.refused("escrow: wrong state", e, "decline", terms | {"salt": EMPTY}, False, by="owner")

    def give_back(name: str, job: Struct, by: str, close: bool, on: str = "") -> None:
        total, per_job, locked = w.known["allowance", "owner", "escrow"]
        moves = {
            ("balance", "buyer"): reference.escrowed(job),
            ("declines", "owner"): 1,
            ("job", name): DECLINED - ACTIVE,
        }
        sets: dict[Any, Any] = {("allowance", "owner", "escrow"): (total, per_job, locked - job["collateral"])}
        events: list[Any] = [(e, "JobDeclined", {"job": w.jobs[name], "provider": w["owner"]})]
        if on:
            slot = w.known["offer", on] - 1
            if close and slot >> 255:
                slot -= 1 << 255
                fields = {"offer_id": w.offers[on], "provider": w["owner"]}
                events.insert(0, (e, "OfferClosed", fields))
            sets["offer", on] = slot
        w.step(e, "decline", job, close, by=by, moves=moves, sets=sets, events=events)

    with w.branch():
        w.at(terms["acknowledge_by"] + 1)
        w.refused("escrow: too late to decline", e, "decline", terms, False, by="owner")
    w.at(terms["acknowledge_by"])
    give_back("job", terms, "operator", False, on="offer")
    w.hire("again", offer, on="offer")
    w.check()
    w.at(other["acknowledge_by"])
    with w.branch():
        give_back("other", other, "owner", True, on="offer")
        w.refused("escrow: offer not open", e, "hire", offer, w.order(), by="buyer")
        w.check()
    # A closed offer stays closed, without another event.
    closed = (e, "OfferClosed", {"offer_id": w.offers["offer"], "provider": w["owner"]})
    w.step(e, "close_offer", offer, by="owner", sets={("offer", "offer"): 2}, events=[closed])
    give_back("other", other, "owner", True, on="offer")
    assert w.known["offer", "offer"] == 1
    # A job of a request has no offer to close.
    w.at(asked["matched_at"])
    give_back("asked", asked, "owner", True)
    for name in ("job", "other"):
        job = terms if name == "job" else other
        w.refused("escrow: wrong state", e, "decline", job, False, by="owner")


def commit(w: World) -> None:
    """What may be committed to, by whom, until when, and what it earns."""
    e = w.escrow
    offer = w.post("offer", w.offer(count=9))
    terms = w.hire("job", offer, on="offer")
    exact = w.hire("exact", offer, on="offer", **EXACT_ORDER)
    good = (terms, ROOT, 5, 0, 100, 7)
    for account in ("buyer", "rival", "thief"):
        w.refused("escrow: not owner or operator", e, "commit", *good, by=account)
    for wrong, reason in (
        ((terms, EMPTY, 5, 0, 100, 7), "result root is empty"),
        ((terms, ROOT, 5, 0, 100, 8), "more done than hired"),
        ((terms, ROOT, 0, 0, 100, 7), "no chunks"),
        ((terms, ROOT, 2**32 + 1, 0, 100, 7), "too many chunks"),
        ((terms | {"salt": EMPTY}, ROOT, 5, 0, 100, 7), "wrong state"),
        ((exact, ROOT, 0, 1, 100, 1), "an exact job cannot fail"),
        ((exact, ROOT, 0, 0, 100, 0), "an exact job cannot fail"),
        ((exact, ROOT, 0, 0, 100, 2), "more done than hired"),
        ((exact, ROOT, 1, 0, 100, 1), "chunks on EXACT"),
    ):
        w.refused(f"escrow: {reason}", e, "commit", *wrong, by="owner")
    w.accepted(e, "commit", terms, ROOT, 2**32, 0, 100, 7, by="owner")
    w.accepted(e, "commit", terms, ROOT, 1, 0, 100, 7, by="owner")
    w.accepted(e, "commit", exact, ROOT, 0, 0, 0, 1, by="operator")
    cases: tuple[dict[str, Any], ...] = (
        {"seconds_used": 0},
        {"seconds_used": 499},
        {"seconds_used": 500},
        {"seconds_used": 501},
        {"tasks_done": 0},
        {"tasks_done": 1, "seconds_used": 480},
        {"tasks_done": 6, "seconds_used": 450},
        {"exit_status": 1, "tasks_done": 0, "seconds_used": 123},
        {"exit_status": 1, "tasks_done": 7, "seconds_used": 499},
        {"exit_status": 2**255, "tasks_done": 3, "seconds_used": 2**255},
        {"seconds_used": 2**256 - 1, "by": "owner", "chunks": 2**32},
    )
    w.at(w.now + 500)
    for case in cases:
        with w.branch():
            w.commit("job", terms, on="offer", **case)
    w.at(terms["deliver_by"] + 1)
    w.refused("escrow: too late to commit", e, "commit", *good, by="owner")
    w.at(terms["deliver_by"])
    for case in (*cases, {"seconds_used": 3_000}, {"seconds_used": 3_001}, {"seconds_used": 3_002}):
        with w.branch():
            w.commit("job", terms, on="offer", **case)
    w.commit("job", terms, on="offer")
    w.commit("exact", exact, on="offer", seconds_used=0)
    w.refused("escrow: wrong state", e, "commit", *good, by="owner")
    w.check()

    # A bag at a fixed price pays by the task, one by the second at most the tasks' share.
    w.at(w.now + 100)
    fixed = w.accept("fixed", w.post_request("first", w.request()), of="first")
    request = w.request(price=0, price_per_second=1_001)
    timed = w.accept("timed", w.post_request("second", request), of="second", price=1_000)
    w.at(w.now + 2_000)
    for name, bag in (("fixed", fixed), ("timed", timed)):
        for done in (0, 1, 3, 5, 6, 10):
            for status in (0, 9):
                for seconds in (0, 700, 1_999, 2_001):
                    with w.branch():
                        w.commit(name, bag, tasks_done=done, exit_status=status, seconds_used=seconds)
    w.commit("fixed", fixed, tasks_done=7)


def settle(w: World) -> None:
    """Money and collateral go back; by the buyer at once, by anyone once the window is over."""
    e = w.escrow
    offer = w.post("offer", w.offer(count=20))
    jobs: dict[str, tuple[Struct, Struct]] = {}
    for index, seconds in enumerate((0, 1, 397, 2_000, 10**6)):
        terms = w.hire(f"job {index}", offer, on="offer", longest_run=600)
        jobs[f"job {index}"] = (terms, {"seconds_used": seconds})
    exact = w.hire("exact", offer, on="offer", **EXACT_ORDER)
    jobs["exact"] = (exact, {"seconds_used": 0})
    w.at(w.now + 400)
    committed = {name: (terms, w.commit(name, terms, on="offer", **how)) for name, (terms, how) in jobs.items()}
    terms, commitment = committed["job 2"]
    for account in ("thief", "owner", "operator"):
        w.refused("escrow: challenge window is open", e, "settle", terms, commitment, by=account)
    for change in ({"pay": commitment["pay"] + 1}, {"committed_at": 0}, {"chunks": 6}, {"result_root": EMPTY}):
        w.refused("escrow: not what was committed", e, "settle", terms, commitment | change, by="buyer")
        wrong = [{"terms": terms, "commitment": commitment | change}]
        assert w.accepted(e, "settle_many", wrong, by="buyer").value == 0
    w.refused("escrow: wrong state", e, "settle", terms | {"buyer": w["thief"]}, commitment, by="thief")
    # What nobody has checked may be of any size, and stops nothing.
    most = 2**256 - 1
    for shown, claim, reason in (
        (terms, commitment | {"committed_at": most}, "not what was committed"),
        (terms, commitment | {"pay": most}, "not what was committed"),
        (terms | {"challenge_window": most}, commitment, "wrong state"),
        (terms | {"longest_run": most}, commitment | {"committed_at": most}, "wrong state"),
    ):
        w.refused(f"escrow: {reason}", e, "settle", shown, claim, by="keeper")
        several = [{"terms": shown, "commitment": claim}, {"terms": terms, "commitment": commitment}]
        assert w.accepted(e, "settle_many", several, by="buyer").value == 1
    w.settle("job 2", terms, commitment, by="buyer")
    w.refused("escrow: wrong state", e, "settle", terms, commitment, by="buyer")
    w.refused("escrow: wrong state", e, "settle", terms, commitment | {"pay": 0}, by="buyer")
    w.check()
    end = commitment["committed_at"] + terms["challenge_window"]
    terms, commitment = committed["job 1"]
    w.at(end - 1)
    w.refused("escrow: challenge window is open", e, "settle", terms, commitment, by="keeper")
    w.at(end)
    w.settle("job 1", terms, commitment, by="keeper")
    w.at(end + 1)
    for name in ("job 0", "exact"):
        w.settle(name, *committed[name], by="keeper")
    w.check()
    held = {"terms": exact, "commitment": committed["exact"][1]}
    every = [{"terms": job, "commitment": done} for job, done in committed.values()]

    # Several at once; those that cannot be are passed over.
    w.at(end - 5)
    active = w.hire("active", offer, on="offer")
    disputed = w.hire("disputed", offer, on="offer")
    stopped = w.commit("disputed", disputed, on="offer")
    w.hold("disputed", disputed, stopped)
    fresh = w.hire("fresh", offer, on="offer")
    shown = w.commit("fresh", fresh, on="offer")
    every += [
        {"terms": active, "commitment": stopped},
        {"terms": disputed, "commitment": stopped},
        {"terms": fresh, "commitment": shown},
    ]
    assert w.accepted(e, "settle_many", [held], by="buyer").value == 0
    assert w.accepted(e, "settle_many", [], by="buyer").value == 0
    assert w.accepted(e, "settle_many", every, by="keeper").value == 0
    w.at(end)
    moves: dict[Any, int] = {}
    sets: dict[Any, Any] = {}
    events = []
    for name in ("job 3", "job 4"):
        more, sets, fields = w.settled(name, *committed[name])
        for key, moved in more.items():
            moves[key] = moves.get(key, 0) + moved
        w.known.update(sets)
        events.append((e, "JobSettled", fields))
    w.step(e, "settle_many", every, by="keeper", returns=2, moves=moves, sets=sets, events=events)
    w.check()
    assert w.accepted(e, "settle_many", every, by="buyer").value == 1
    many = [{"terms": fresh, "commitment": shown}] * 32
    assert w.accepted(e, "settle_many", many, by="buyer").value == 1
    ok, _, _ = w.chain.execute(
        e, e.functions["settle_many", 1].call_data([[*many, *many[:1]]]), ORIGIN, is_static=False
    )
    assert not ok

    # Fees of several settlements add up, each provider's on its own.
    fees = w.known["fees", "owner"]
    assert fees > 0
    w.refused("escrow: no fees", e, "collect_fees", [w["buyer"], w["rival"]], w["receiver"], by="admin")
    w.step(
        e, "collect_fees", [w["buyer"], w["owner"], w["owner"]], w["receiver"], by="admin", returns=fees,
        moves={("fees", "owner"): -fees, ("tokens", "receiver"): fees, ("tokens", "escrow"): -fees},
        events=[(e, "FeesCollected", {"receiver": w["receiver"], "amount": fees})],
    )  # fmt: skip
    w.refused("escrow: no fees", e, "collect_fees", [w["owner"]], w["receiver"], by="admin")


def expire(w: World) -> None:
    """A job that nobody committed to in time: the buyer is compensated, the rest burns."""
    e = w.escrow
    offer = w.post("offer", w.offer())
    terms = w.hire("job", offer, on="offer")
    request = w.post_request("request", w.request(price=999 * USD + 4))
    dear = w.accept("dear", request, of="request", price=900 * USD + 3)
    w.at(terms["deliver_by"])
    w.refused("escrow: not due yet", e, "expire", terms, by="keeper")
    w.refused("escrow: wrong state", e, "expire", terms | {"salt": EMPTY}, by="keeper")
    w.at(terms["deliver_by"] + 1)
    moves, sets, events = w.expired("job", terms)
    w.step(e, "expire", terms, by="keeper", moves=moves, sets=sets, events=events)
    w.refused("escrow: wrong state", e, "expire", terms, by="keeper")
    w.at(dear["deliver_by"] + 1)
    moves, sets, events = w.expired("dear", dear)
    assert events[1][2]["compensation"] == dear["collateral"] // 5
    w.step(e, "expire", dear, by="thief", moves=moves, sets=sets, events=events)
    w.check()

    # The shares are in balances at once; the tokens come when they are needed, or when somebody fetches them.
    owed = w.known["owed", "escrow"]
    collected = (e, "SlashesCollected", {"amount": owed})
    sent = (w.staking, "Collected", {"locker": w["escrow"], "amount": owed})
    with w.branch():
        w.step(
            e, "collect_slashes", by="keeper", returns=owed,
            moves={("owed", "escrow"): -owed, ("tokens", "escrow"): owed, ("tokens", "staking"): -owed},
            events=[sent, collected],
        )  # fmt: skip
        w.refused("staking: nothing owed", e, "collect_slashes", by="keeper")
        w.check()
    for function, args, reason in (
        ("set_fee_bps", (1_000,), "escrow: token takes a fee"),
        ("set_callback", w.gift("escrow"), "escrow: token takes a fee"),
        ("set_returns_false", (True,), "staking: transfer failed"),
    ):
        with w.branch():
            assert w.chain.call(w.token, function, *args, sender=w["admin"]).ok
            w.refused(reason, e, "collect_slashes", by="keeper")
    balance, tokens = w.known["balance", "buyer"], w.known["tokens", "escrow"]
    assert balance == tokens + owed
    withdrawn = (e, "Withdrawn", {"account": w["buyer"], "receiver": w["buyer"], "amount": tokens})
    moves = {("balance", "buyer"): -tokens, ("tokens", "buyer"): tokens, ("tokens", "escrow"): -tokens}
    with w.branch():
        w.step(e, "withdraw", tokens, by="buyer", moves=moves, events=[withdrawn])
        w.check()
    withdrawn = (e, "Withdrawn", {"account": w["buyer"], "receiver": w["buyer"], "amount": balance})
    w.step(
        e, "withdraw", balance, by="buyer",
        moves={
            ("balance", "buyer"): -balance, ("tokens", "buyer"): balance, ("tokens", "escrow"): owed - balance,
            ("tokens", "staking"): -owed, ("owed", "escrow"): -owed,
        },
        events=[sent, collected, withdrawn],
    )  # fmt: skip


def disputes(w: World) -> None:
    """Hold, release and conviction, their windows and shares."""
    e, a = w.escrow, w.arbiter
    offer = w.post("offer", w.offer(count=9))
    terms = w.hire("job", offer, on="offer", **EXACT_ORDER)
    basic = w.hire("basic", offer, on="offer")
    w.at(w.now + 60)
    commitment = w.commit("job", terms, on="offer")
    claimed = w.commit("basic", basic, on="offer")
    end = commitment["committed_at"] + terms["challenge_window"]
    for account in ("buyer", "admin", "owner", "thief"):
        w.refused("escrow: not the arbiter", e, "hold", terms, commitment, by=account)
    for change in ({"pay": 0}, {"committed_at": 2**64}, {"chunks": 1}, {"result_root": EMPTY}):
        w.refused("escrow: not what was committed", a, "hold", terms, commitment | change, by="keeper")
    w.refused("escrow: wrong state", a, "hold", terms | {"arbiter": ZERO}, commitment, by="keeper")
    w.at(end)
    w.refused("escrow: challenge window is over", a, "hold", terms, commitment, by="keeper")
    w.at(end + 1)
    w.refused("escrow: challenge window is over", a, "hold", terms, commitment, by="keeper")
    w.at(end - 1)
    w.hold("job", terms, commitment)
    w.hold("basic", basic, claimed)

    for account in ("buyer", "admin", "owner"):
        w.refused("escrow: not the arbiter", e, "release", terms, by=account)
        w.refused("escrow: not the arbiter", e, "convict", terms, commitment, 0, by=account)
        w.refused("escrow: job is disputed", e, "settle", terms, commitment, by=account)
    w.refused("escrow: not what was committed", e, "settle", terms, commitment | {"pay": 0}, by="buyer")
    w.refused("escrow: not what was committed", a, "convict", terms, commitment | {"pay": 0}, 0, by="keeper")
    with w.branch():
        w.step(
            a, "release", terms, by="keeper", moves={("job", "job"): COMMITTED - DISPUTED},
            events=[(e, "JobReleased", {"job": w.jobs["job"], "arbiter": w["arbiter"]})],
        )  # fmt: skip
        w.refused("escrow: challenge window is open", e, "settle", terms, commitment, by="keeper")
        w.accepted(e, "settle", terms, commitment, by="buyer")
        w.accepted(a, "hold", terms, commitment, by="keeper")
        w.at(end)
        w.settle("job", terms, commitment, by="keeper")
        w.check()

    def convict(name: str, job: Struct, shown: Struct, to_arbiter: int) -> None:
        if job["tier"] == BASIC:
            moves, sets, events = w.expired(name, job)
        else:
            to_buyer = reference.conviction_share(job)
            moves, sets, slashed = w.slashed(
                name, job, to_buyer=to_buyer, to_arbiter=to_arbiter, status=reference.CONVICTED
            )
            shares = {"to_buyer": to_buyer, "to_arbiter": to_arbiter}
            fields = {"job": w.jobs[name], "refund": reference.escrowed(job), **shares}
            events = [(w.staking, "Slashed", slashed), (e, "JobConvicted", fields)]
        w.step(a, "convict", job, shown, to_arbiter, by="keeper", moves=moves, sets=sets, events=events)
        w.refused("escrow: wrong state", a, "convict", job, shown, 0, by="keeper")

    cap = reference.arbiter_cap(terms)
    basic_end, exact_end = end + DISPUTE_TIMEOUT, end + EXACT_DISPUTE_TIMEOUT
    for at in (w.now, basic_end - 1):
        w.at(at)
        w.refused("escrow: job is disputed", e, "settle", basic, claimed, by="keeper")
        w.refused("escrow: job is disputed", e, "settle", basic, claimed, by="buyer")
        w.refused("escrow: share above cap", a, "convict", basic, claimed, 1, by="keeper")
        with w.branch():
            convict("basic", basic, claimed, 0)
            w.check()
    for late in (0, 1):
        w.at(basic_end + late)
        w.refused("escrow: dispute has timed out", a, "convict", basic, claimed, 0, by="keeper")
        with w.branch():
            w.settle("basic", basic, claimed, by="thief")
            w.check()
    for at in (end, basic_end, exact_end - 1):
        w.at(at)
        w.refused("escrow: job is disputed", e, "settle", terms, commitment, by="buyer")
        for to_arbiter in (0, 1, cap):
            with w.branch():
                convict("job", terms, commitment, to_arbiter)
                w.check()
        w.refused("escrow: share above cap", a, "convict", terms, commitment, cap + 1, by="keeper")
    for late in (0, 1):
        w.at(exact_end + late)
        w.refused("escrow: dispute has timed out", a, "convict", terms, commitment, 0, by="keeper")
        with w.branch():
            w.settle("job", terms, commitment, by="thief")
            w.check()
    assert w.accepted(e, "settle_many", [{"terms": terms, "commitment": commitment}], by="keeper").value == 1

    # A price above 35 % of the collateral: the share is cut at the collateral's part; below, at the price.
    w.at(w.now + 1)
    for name, price in (("high", 21 * USD + 1), ("low", 21 * USD - 2)):
        request = w.post_request(name, w.request(price=price, **EXACT_ORDER))
        job = w.accept(name, request, of=name, price=price)
        done = w.commit(name, job)
        w.hold(name, job, done)
        convict(name, job, done, reference.arbiter_cap(job))
    w.check()
    # The arbiter takes its shares out as anyone does.
    amount = w.known["balance", "arbiter"]
    w.step(
        w.arbiter, "withdraw", amount, w["receiver"], by="keeper",
        moves={("balance", "arbiter"): -amount, ("tokens", "receiver"): amount, ("tokens", "escrow"): -amount},
    )  # fmt: skip


def every_function_in_every_state(w: World) -> None:
    """Every function in every state: what is not in its table is refused for the state alone."""
    e, a = w.escrow, w.arbiter
    offer = w.post("offer", w.offer(count=9))
    terms = w.hire("job", offer, on="offer")
    unknown = w.hire("other", offer, on="offer") | {"salt": b"\x0f" * 32}
    w.at(terms["matched_at"] + 10)
    shown: Struct = {"result_root": ROOT, "chunks": 5, "pay": 0, "committed_at": w.now}

    def send(contract: Deployed, function: str, *args: Any, by: str) -> None:
        receipt = w.chain.call(contract, function, *args, sender=w[by])
        assert receipt.ok, (function, receipt.reason)

    def reach(state: str) -> None:
        """Brings the job into a state."""
        if state in ("COMMITTED", "SETTLED", "DISPUTED", "CONVICTED"):
            send(e, "commit", terms, ROOT, 5, 1, 0, 0, by="owner")
        if state in ("DISPUTED", "CONVICTED"):
            send(a, "hold", terms, shown, by="keeper")
        if state == "DECLINED":
            send(e, "decline", terms, False, by="owner")
        elif state == "EXPIRED":
            w.at(terms["deliver_by"] + 1)
            send(e, "expire", terms, by="owner")
        elif state == "SETTLED":
            send(e, "settle", terms, shown, by="buyer")
        elif state == "CONVICTED":
            send(a, "convict", terms, shown, 0, by="keeper")

    states = ("unknown", "ACTIVE", "DECLINED", "EXPIRED", "COMMITTED", "SETTLED", "DISPUTED", "CONVICTED")
    allowed = {
        "decline": ("ACTIVE",), "commit": ("ACTIVE",), "expire": ("ACTIVE",), "hold": ("COMMITTED",),
        "release": ("DISPUTED",), "convict": ("DISPUTED",), "settle": ("COMMITTED",), "settle_many": ("COMMITTED",),
    }  # fmt: skip
    for state in states:
        with w.branch():
            reach(state)
            job = unknown if state == "unknown" else terms
            calls: dict[str, tuple[Any, tuple[Any, ...], str]] = {
                "decline": (e, (job, False), "owner"),
                "commit": (e, (job, ROOT, 5, 1, 0, 0), "owner"),
                "hold": (a, (job, shown), "keeper"),
                "release": (a, (job,), "keeper"),
                "convict": (a, (job, shown, 0), "keeper"),
                "settle": (e, (job, shown), "buyer"),
                "settle_many": (e, ([{"terms": job, "commitment": shown}],), "buyer"),
                "expire": (e, (job,), "keeper"),
            }
            for function, (contract, args, by) in calls.items():
                if function == "expire":
                    w.at(terms["deliver_by"] + 1)
                if function == "settle_many":
                    settled = w.accepted(contract, function, *args, by=by).value
                    assert settled == (state in allowed[function]), (state, function)
                elif state in allowed[function]:
                    w.accepted(contract, function, *args, by=by)
                elif state == "DISPUTED" and function == "settle":
                    w.refused("escrow: job is disputed", contract, function, *args, by=by)
                else:
                    w.refused("escrow: wrong state", contract, function, *args, by=by)


SCENARIOS: tuple[Any, ...] = (decline, commit, settle, expire, disputes, every_function_in_every_state)
