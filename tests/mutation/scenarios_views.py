# SPDX-License-Identifier: Apache-2.0
"""Scenarios of the views, of other tokens and chains, and of what a deployment refuses."""

from __future__ import annotations

from typing import Any

from tests.unit import reference
from tests.unit.reference import ACTIVE, BASIC, CANCELLED, COMMITTED, OPEN

from .chain import Refused
from .world import ALLOWED, EMPTY, FEE_BPS, PER_JOB, ROOT, STAKE, TARGETS, USD, ZERO, World, furnish, person

# Where Arbitrum's own precompile stands, and code that answers any call with the number below.
ARB_SYS = "0x0000000000000000000000000000000000000064"
L2_BLOCK = 0x0BDE31
ANSWER = bytes.fromhex("620bde315f5260205ff3")

ESCROW_OF_FALSE, FALSE = "0x" + "e5" * 20, "0x" + "fa" * 20


def views(w: World) -> None:
    """What people read is what state holds."""
    v, e = w.views, w.escrow
    base = w.offer(shortest_run=5)
    buyer = w["buyer"]

    def refusal(reason: str, *, run: int = 100, who: str = buyer, **changes: Any) -> None:
        assert w.read(v, "refusal", base | changes, who, run) == reason, reason

    refusal("offer not open")
    offer = w.post("offer", base)
    assert w.read(v, "offer_state", w.offers["offer"]) == {"is_open": True, "epoch": 0, "active": 0}
    assert w.read(v, "offer_id", offer) == w.offers["offer"]
    for run in (5, 100, 3_601):
        refusal("", run=run)
    refusal("run below offer", run=4)
    refusal("longest run is zero or beyond offer", run=3_602)
    refusal("arbiter not approved", arbiter=w["locker"])
    refusal("offer not open", arbiter=ZERO)
    refusal("offer not open", arbiter=w["demands"])
    refusal("longest run is zero or beyond offer", run=0, shortest_run=0)
    refusal("fee above offer's limit", max_fee_bps=249)
    refusal("not enough balance", who=w["rival"])
    assert w.chain.call(e, "deposit", 100 * 1_003, w["rival"], sender=buyer).ok
    refusal("", who=w["rival"])
    refusal("not enough balance", run=101, who=w["rival"])
    w.look()
    fee = w.post("fee", w.offer(max_fee_bps=250, collateral=PER_JOB, count=4))
    assert w.read(v, "refusal", fee, buyer, 100) == ""
    dear = w.post("dear", w.offer(collateral=PER_JOB + 1))
    uncovered = "provider's allowance does not cover the collateral"
    assert w.read(v, "refusal", dear, buyer, 100) == uncovered
    job = w.hire("job", offer, on="offer", tasks=3)
    for index in range(3):
        w.hire(f"fee {index}", fee, on="fee")
    assert w.read(v, "refusal", fee, buyer, 100) == uncovered
    left = ALLOWED - 3 * PER_JOB - job["collateral"]
    rest = w.post("rest", w.offer(collateral=left))
    assert w.read(v, "refusal", rest, buyer, 100) == ""
    assert w.read(v, "refusal", w.post("more", w.offer(collateral=left + 1)), buyer, 100) == uncovered
    small = w.post("small", w.offer(collateral=1, count=2))
    w.hire("small", small, on="small")
    assert w.read(v, "refusal", small, buyer, 100) == ""
    w.hire("smaller", small, on="small")
    assert w.read(v, "refusal", small, buyer, 100) == "offer fully used"
    assert w.read(v, "offer_state", w.offers["small"]) == {"is_open": True, "epoch": 0, "active": 2}
    assert w.chain.call(e, "close_offer", small, sender=w["owner"]).ok
    w.known["offer", "small"] -= 1 << 255
    assert w.read(v, "refusal", small, buyer, 100) == "offer not open"
    assert w.read(v, "offer_state", w.offers["small"]) == {"is_open": False, "epoch": 0, "active": 2}
    with w.branch():
        tiny = w.post("tiny", w.offer(collateral=1, count=5))
        w.at(base["expiry"] - 1)
        assert w.read(v, "refusal", tiny, buyer, 100) == ""
        w.at(base["expiry"])
        refusal("offer has expired")
        w.at(base["expiry"] + 1)
        refusal("offer has expired")
    with w.branch():
        assert w.chain.call(e, "set_paused", True, sender=w["admin"]).ok
        refusal("new jobs are paused")

    # Jobs and requests.
    def state(name: str) -> tuple[int, int, int]:
        seen = w.read(v, "job_state", w.jobs[name])
        return seen["status"], seen["created_block"], seen["commitment_digest"]

    assert w.read(v, "job_id", job) == w.jobs["job"]
    created = (w.known["job", "job"] >> 16) & (2**40 - 1)
    assert state("job") == (ACTIVE, created, 0)
    assert w.read(v, "job_state", EMPTY) == {"status": 0, "created_block": 0, "commitment_digest": 0}
    assert w.read(v, "escrowed", job) == reference.escrowed(job)
    assert w.read(v, "escrowed", job | {"salt": EMPTY}) == 0
    w.at(w.now + 77)
    # Each bit beside another field's is seen as zero and as one.
    lowest = set()
    for root in range(1, 9):
        with w.branch():
            digest = reference.digest(w.commit("job", job, on="offer", root=root.to_bytes(32, "big")))
            assert state("job") == (COMMITTED, created, digest)
            lowest.add(digest & 1)
    assert lowest == {0, 1}
    shown = w.commit("job", job, on="offer")
    assert state("job") == (COMMITTED, created, reference.digest(shown))
    assert w.read(v, "escrowed", job) == reference.escrowed(job)
    with w.branch():
        w.hold("job", job, shown)
        assert w.read(v, "escrowed", job) == reference.escrowed(job)
    w.settle("job", job, shown, by="buyer")
    assert w.read(v, "escrowed", job) == 0

    request = w.post_request("request", w.request())
    posted = w.known["request", "request"] >> 16
    assert posted == w.chain.block
    assert w.read(v, "request_id", request) == w.requests["request"]
    assert w.read(v, "request_state", w.requests["request"]) == {"status": OPEN, "created_block": posted}
    assert w.chain.call(e, "cancel_request", request, sender=buyer).ok
    w.known["request", "request"] += CANCELLED - OPEN
    w.known["balance", "buyer"] += reference.highest_price(request)
    assert w.read(v, "request_state", w.requests["request"]) == {"status": CANCELLED, "created_block": posted}

    # The provider as the escrow sees it, before and after it lowers its allowance below its locks.
    declined = w.hire("declined", offer, on="offer")
    assert w.chain.call(e, "decline", declined, False, sender=w["owner"]).ok
    w.look()
    free, locked = STAKE - ALLOWED, w.known["allowance", "owner", "escrow"][2]
    for total, per_job in ((ALLOWED, PER_JOB), (11 * USD, 7 * USD)):
        assert w.chain.call(w.staking, "allow", w["escrow"], total, per_job, sender=w["owner"]).ok
        free = STAKE - max(total, locked)
        assert w.read(v, "provider_of", w["owner"]) == {
            "operator": w["operator"],
            "stake": STAKE,
            "free_stake": free,
            "allowed": total,
            "allowed_per_job": per_job,
            "locked": locked,
            "balance": w.known["balance", "owner"],
            "declines": 1,
            "fees": reference.fee(job, shown["pay"]),
        }
    assert locked > 11 * USD
    w.look()
    assert w.read(v, "ESCROW") == w["escrow"]
    assert w.read(v, "STAKING") == w["staking"]


def other_tokens(w: World) -> None:
    """A token with permits, and one whose transfers return nothing."""
    from .scenarios_matching import permits

    for token in ("mocks/TestToken", "mocks/SilentToken"):
        other = World(w.programs, w.abis, token)
        furnish(other)
        with other.branch():
            permits(other)
        other.step(
            other.escrow, "withdraw", 5, by="buyer",
            moves={("balance", "buyer"): -5, ("tokens", "buyer"): 5, ("tokens", "escrow"): -5},
        )  # fmt: skip
        other.step(
            other.staking, "withdraw", 5, by="owner",
            moves={("free", "owner"): -5, ("tokens", "owner"): 5, ("tokens", "staking"): -5},
        )  # fmt: skip
        offer = other.post("offer", other.offer(arbiter=other["demands"], tiers=BASIC))
        terms = other.hire("job", offer, on="offer")
        shown = other.commit("job", terms, on="offer")
        receipt = other.chain.call(other.demands, "demand", terms, shown, [0], sender=other["buyer"])
        assert receipt.ok, receipt.reason
        other.at(other.now + 86_401)
        receipt = other.chain.call(other.demands, "expire", terms, shown, 0, sender=other["keeper"])
        assert receipt.ok, receipt.reason
        assert other.chain.call(other.demands, "collect", other["buyer"], sender=other["keeper"]).ok
        assert other.chain.call(other.escrow, "collect_slashes", sender=other["keeper"]).ok


def arbitrum(w: World) -> None:
    """On each of Arbitrum's chains the block is the chain's own, elsewhere that of the block."""
    for chain_id, block in ((42161, L2_BLOCK), (42170, L2_BLOCK), (421614, L2_BLOCK), (42162, 0), (10, 0)):
        other = World(w.programs, w.abis, chain_id=chain_id)
        other.chain.env.set_code(ARB_SYS, ANSWER)
        furnish(other)
        request = other.request()
        receipt = other.chain.call(other.escrow, "post_request", request, sender=other["buyer"])
        assert receipt.ok, receipt.reason
        slot = other.read(other.escrow, "request_slot", other.request_id(request))
        assert slot == ((block or other.chain.block) << 16) | OPEN
        offer = other.offer()
        for function, args, by in (("post_offer", (offer,), "owner"), ("hire", (offer, other.order()), "buyer")):
            receipt = other.chain.call(other.escrow, function, *args, sender=other[by])
            assert receipt.ok, receipt.reason
        assert other.read(other.escrow, "job_slot", receipt.value) >> 16 == (block or other.chain.block)


def deployments(w: World) -> None:
    """What constructors refuse, and what they leave behind."""

    def refused(reason: str, program: str, *args: Any) -> None:
        try:
            with w.chain.branch():
                w.deploy("new", program, *args)
        except Refused as error:
            assert str(error) == reason, (str(error), reason)
        else:
            raise AssertionError(f"deployed: {reason}")

    refused("staking: token is no contract", "ProviderStaking", w["thief"])
    refused("escrow: token is no contract", "JobEscrow", w["thief"], w["staking"], 0)
    refused("escrow: staking is no contract", "JobEscrow", w["token"], w["thief"], 0)
    refused("escrow: fee above cap", "JobEscrow", w["token"], w["staking"], 501)
    refused("demands: escrow is no contract", "DataDemands", w["thief"], 1)
    refused("demands: fee is zero", "DataDemands", w["escrow"], 0)
    refused("demands: fee too large", "DataDemands", w["escrow"], 2**128)
    for fee in (1, 2**128 - 1):
        with w.chain.branch():
            w.deploy("new", "DataDemands", w["escrow"], fee)
    with w.chain.branch():
        # An escrow that answers with the address of a token, and a token that answers with false.
        w.chain.env.set_code(ESCROW_OF_FALSE, bytes.fromhex(f"73{FALSE[2:]}5f5260205ff3"))
        w.chain.env.set_code(FALSE, bytes.fromhex("60205ff3"))
        refused("demands: approval failed", "DataDemands", ESCROW_OF_FALSE, 1)
    for fee in (0, 3, 500):
        with w.chain.branch():
            new = w.deploy("new", "JobEscrow", w["token"], w["staking"], fee, sender="rival")
            assert [(event.name, event.fields) for event in w.chain.constructed if event.name == "FeeSet"] == [
                ("FeeSet", {"fee_bps": fee})
            ]
            assert w.read(new, "fee_bps") == fee
            assert w.read(new, "is_paused") is False
            assert w.read(new, "owner") == w["rival"]
            assert w.read(new, "pending_owner") == ZERO
    with w.chain.branch():
        other = w.deploy("other token", "mocks/TestToken")
        refused("escrow: stake is another token", "JobEscrow", other.address, w["staking"], 0)
    with w.chain.branch():
        assert w.chain.call(w.token, "set_fee_bps", 1, sender=w["admin"]).ok
        w.deploy("new", "DataDemands", w["escrow"], 1)
    assert w.read(w.escrow, "fee_bps") == FEE_BPS
    assert len(ROOT) == 32
    assert person("thief") == w["thief"]
    assert len(TARGETS) == 4


SCENARIOS: tuple[Any, ...] = (deployments, views, other_tokens, arbitrum)
