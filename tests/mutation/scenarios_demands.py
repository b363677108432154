# SPDX-License-Identifier: Apache-2.0
"""Scenarios of DataDemands: demands for chunks, proofs, answers in time and not."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.unit import reference
from tests.unit.reference import BASIC, COMMITTED, DISPUTED, EXACT

from .world import ANSWER_FEE, BALANCE, DAY, EMPTY, EXACT_TERMS, ZERO, Struct, World

CHUNK = 4096


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


class Bundle:
    """A result as the provider commits to it: its root, and a proof of each chunk."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size = size
        self.manifest_size = 300 + seed
        self.count = -(-size // CHUNK)
        self.chunks = [(b"%d:%d:" % (seed, index)).ljust(CHUNK, b"\xa5") for index in range(self.count)]
        self.layers = [[sha(b"\0", chunk) for chunk in self.chunks]]
        while len(self.layers[0]) & (len(self.layers[0]) - 1):
            self.layers[0].append(EMPTY)
        while len(self.layers[-1]) > 1:
            layer = self.layers[-1]
            self.layers.append([sha(b"\1", layer[i], layer[i + 1]) for i in range(0, len(layer), 2)])
        self.root = sha(
            b"GPUBOND-RESULT-1", size.to_bytes(8, "big"), self.manifest_size.to_bytes(8, "big"), self.layers[-1][0]
        )

    def proof(self, index: int, **changes: Any) -> Struct:
        path = [layer[(index >> depth) ^ 1] for depth, layer in enumerate(self.layers[:-1])]
        return {
            "chunk": self.chunks[index],
            "bundle_size": self.size,
            "manifest_size": self.manifest_size,
            "path": path,
        } | changes


def start(w: World, name: str, bundle: Bundle, **offered: Any) -> tuple[Struct, Struct]:
    """A committed job whose arbiter is DataDemands."""
    on = f"offer of {name}"
    offer = w.post(on, w.offer(**{"arbiter": w["demands"], "tiers": BASIC} | offered))
    terms = w.hire(name, offer, on=on)
    w.at(w.now + 100)
    commitment = w.commit(name, terms, on=on, root=bundle.root, chunks=bundle.count, seconds_used=50)
    w.demanded.append(name)
    for lane in range(9):
        w.known["demand", name, str(lane)] = (False, 0, 0)
    return terms, commitment


def demand(w: World, name: str, terms: Struct, shown: Struct, indexes: list[int], lanes: list[int]) -> None:
    """The buyer demands chunks, which take these lanes."""
    answer_by = w.now + DAY
    events: list[Any] = []
    if w.known["job", name] & COMMITTED:
        events.append((w.escrow, "JobDisputed", {"job": w.jobs[name], "arbiter": w["demands"]}))
    sets: dict[Any, Any] = {}
    for index, lane in zip(indexes, lanes, strict=True):
        sets["demand", name, str(lane)] = (True, index, answer_by)
        place = {"job": w.jobs[name], "provider": w["owner"], "lane": lane, "index": index}
        events.append((w.demands, "DataDemanded", {**place, "answer_by": answer_by}))
    fee = ANSWER_FEE * len(indexes)
    sets["job", name] = (w.known["job", name] & ~0xFFFF) | DISPUTED
    w.step(
        w.demands, "demand", terms, shown, indexes, by="buyer",
        moves={("tokens", "buyer"): -fee, ("tokens", "demands"): fee}, sets=sets, events=events,
    )  # fmt: skip


def answer(w: World, name: str, terms: Struct, shown: Struct, lane: int, bundle: Bundle, last: bool = False) -> None:
    """Anyone answers the demand in a lane; the last answer releases the job."""
    _, index, answer_by = w.known["demand", name, str(lane)]
    events: list[Any] = [(w.demands, "DataAnswered", {"job": w.jobs[name], "lane": lane, "index": index})]
    sets: dict[Any, Any] = {("demand", name, str(lane)): (False, index, answer_by)}
    if last:
        sets["job", name] = w.known["job", name] - DISPUTED + COMMITTED
        events.append((w.escrow, "JobReleased", {"job": w.jobs[name], "arbiter": w["demands"]}))
    w.step(
        w.demands, "answer", terms, shown, lane, bundle.proof(index), by="thief",
        moves={("claimable", "owner"): ANSWER_FEE}, sets=sets, events=events,
    )  # fmt: skip


def demands(w: World) -> None:
    """Who may demand what, when, at what price, and in which lane."""
    d = w.demands
    bundle = Bundle(5 * CHUNK - 3)
    terms, shown = start(w, "job", bundle)
    end = shown["committed_at"] + terms["challenge_window"]
    for account in ("thief", "owner", "operator"):
        w.refused("demands: not the buyer", d, "demand", terms, shown, [0], by=account)
    w.refused("demands: nothing demanded", d, "demand", terms, shown, [], by="buyer")
    for wrong in (5, 6, 2**64, 2**256 - 1):
        w.refused("demands: no such chunk", d, "demand", terms, shown, [0, wrong], by="buyer")
    w.refused("escrow: not what was committed", d, "demand", terms, shown | {"chunks": 9}, [5], by="buyer")
    w.refused("escrow: wrong state", d, "demand", terms | {"salt": EMPTY}, shown, [0], by="buyer")
    other = w.hire("other", w.post("plain", w.offer(tiers=BASIC)), on="plain")
    w.refused("escrow: wrong state", d, "demand", other, shown, [0], by="buyer")
    plain = w.commit("other", other, on="plain")
    w.refused("escrow: not the arbiter", d, "demand", other, plain, [0], by="buyer")
    offer = w.post("exact", w.offer(tiers=EXACT, arbiter=w["demands"]))
    exact = w.hire("exact", offer, on="exact", tier=EXACT, exact_terms=EXACT_TERMS, tasks=1)
    done = w.commit("exact", exact, on="exact")
    w.refused("demands: not on this tier", d, "demand", exact, done, [0], by="buyer")
    w.refused("demands: no such demand", d, "answer", terms, shown, 0, bundle.proof(0), by="thief")
    w.refused("demands: no such demand", d, "expire", terms, shown, 0, by="thief")
    w.refused("demands: no such demand", d, "reclaim", terms, by="thief")
    w.refused("demands: nothing to collect", d, "collect", w["owner"], by="owner")
    for late in (0, 1):
        with w.branch():
            w.at(end + late)
            w.refused("escrow: challenge window is over", d, "demand", terms, shown, [0], by="buyer")
    assert w.read(w.escrow, "job_slot", w.jobs["job"]) & 0xFFFF == COMMITTED

    for function, args, reason in (
        ("set_returns_false", (True,), "demands: transfer failed"),
        ("set_fee_bps", (1_000,), "demands: token takes a fee"),
        ("set_callback", w.gift("demands"), "demands: token takes a fee"),
    ):
        with w.branch():
            assert w.chain.call(w.token, function, *args, sender=w["admin"]).ok
            w.refused(reason, d, "demand", terms, shown, [0], by="buyer")

    w.at(end - 1)
    with w.branch():
        demand(w, "job", terms, shown, [4, 4, 0, 1, 2, 3, 0, 1], [0, 1, 2, 3, 4, 5, 6, 7])
        w.refused("demands: too many demands", d, "demand", terms, shown, [0], by="buyer")
        answer(w, "job", terms, shown, 5, bundle)
        demand(w, "job", terms, shown, [2], [5])
        w.check()
    w.at(end - 10)
    demand(w, "job", terms, shown, [3, 1], [0, 1])
    w.refused("demands: not what was committed", d, "demand", terms, shown | {"chunks": 9}, [5], by="buyer")
    w.at(end - 1)
    demand(w, "job", terms, shown, [4], [2])
    w.refused("demands: too many demands", d, "demand", terms, shown, [0] * 6, by="buyer")
    w.accepted(d, "demand", terms, shown, [0] * 5, by="buyer")
    for late in (0, 1):
        with w.branch():
            w.at(end + late)
            w.refused("demands: challenge window is over", d, "demand", terms, shown, [0], by="buyer")
    w.refused("demands: job is not over", d, "reclaim", terms, by="buyer")
    w.check()
    # Money of demands is not the escrow's: it comes from tokens.
    assert w.known["balance", "buyer"] < BALANCE


def answers(w: World) -> None:
    """Proofs that are taken and proofs that are not, of bundles of several sizes."""
    d = w.demands
    bundle = Bundle(5 * CHUNK - 3)
    terms, shown = start(w, "job", bundle)
    demand(w, "job", terms, shown, [3, 4, 0], [0, 1, 2])
    asked = w.now
    good = bundle.proof(3)
    longer, shorter = [*good["path"], EMPTY], good["path"][:-1]
    for changes, reason in (
        ({"chunk": good["chunk"][:-1]}, "chunk is not 4096 bytes"),
        ({"chunk": b""}, "chunk is not 4096 bytes"),
        ({"bundle_size": 4 * CHUNK}, "bundle of another size"),
        ({"bundle_size": 5 * CHUNK + 1}, "bundle of another size"),
        ({"path": longer}, "path of another length"),
        ({"path": shorter}, "path of another length"),
        ({"path": []}, "path of another length"),
        ({"bundle_size": 5 * CHUNK}, "chunk is not of the result"),
        ({"bundle_size": 4 * CHUNK + 1}, "chunk is not of the result"),
        ({"manifest_size": 301}, "chunk is not of the result"),
        ({"chunk": bundle.chunks[2]}, "chunk is not of the result"),
        ({"path": bundle.proof(2)["path"]}, "chunk is not of the result"),
        ({"path": good["path"][::-1]}, "chunk is not of the result"),
    ):
        w.refused(f"demands: {reason}", d, "answer", terms, shown, 0, good | changes, by="operator")
    w.refused("demands: chunk is not of the result", d, "answer", terms, shown, 0, bundle.proof(4), by="operator")
    for lane in (3, 7, 8, 255, 256, 2**255):
        w.refused("demands: no such demand", d, "answer", terms, shown, lane, good, by="operator")
        w.refused("demands: no such demand", d, "expire", terms, shown, lane, by="operator")
    w.refused("demands: not what was committed", d, "answer", terms, shown | {"pay": 0}, 0, good, by="operator")
    w.refused("demands: no such demand", d, "answer", terms | {"salt": EMPTY}, shown, 0, good, by="operator")
    with w.branch():
        w.at(asked + DAY + 1)
        w.refused("demands: too late to answer", d, "answer", terms, shown, 0, good, by="operator")
    w.at(asked + DAY)
    w.refused("demands: not due yet", d, "expire", terms, shown, 0, by="buyer")
    answer(w, "job", terms, shown, 0, bundle)
    w.refused("demands: no such demand", d, "answer", terms, shown, 0, good, by="operator")
    answer(w, "job", terms, shown, 2, bundle)
    answer(w, "job", terms, shown, 1, bundle, last=True)
    w.refused("demands: no such demand", d, "reclaim", terms, by="buyer")
    w.check()
    claimed = 3 * ANSWER_FEE
    w.step(
        d, "collect", w["owner"], by="thief",
        moves={
            ("claimable", "owner"): -claimed, ("balance", "owner"): claimed,
            ("tokens", "demands"): -claimed, ("tokens", "escrow"): claimed,
        },
        events=[
            (w.escrow, "Deposited", {"account": w["owner"], "payer": w["demands"], "amount": claimed}),
            (d, "Collected", {"account": w["owner"], "amount": claimed}),
        ],
    )  # fmt: skip
    w.refused("demands: nothing to collect", d, "collect", w["owner"], by="owner")
    # The window is over by now, so the released job settles.
    w.settle("job", terms, shown, by="keeper")
    w.check()
    for size in (1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK, 4 * CHUNK, 8 * CHUNK + 1, 17 * CHUNK):
        small = Bundle(size, seed=size)
        name = f"of {size}"
        job, claim = start(w, name, small, count=1 + size, collateral=1 + size % 7)
        wanted = sorted({0, small.count // 2, small.count - 1})
        demand(w, name, job, claim, wanted, list(range(len(wanted))))
        for lane, _ in enumerate(wanted):
            answer(w, name, job, claim, lane, small, last=lane == len(wanted) - 1)
    w.check()


def withheld(w: World) -> None:
    """A demand that nobody answers ends the job; fees of those open go back to the buyer."""
    d = w.demands
    bundle = Bundle(3 * CHUNK)
    terms, shown = start(w, "job", bundle)
    demand(w, "job", terms, shown, [0, 1, 2, 2, 1, 1, 0, 0], list(range(8)))
    asked = w.now
    answer(w, "job", terms, shown, 1, bundle)
    w.at(asked + 50)
    demand(w, "job", terms, shown, [2], [1])
    answer(w, "job", terms, shown, 4, bundle)
    w.at(asked + DAY)
    w.refused("demands: not due yet", d, "expire", terms, shown, 0, by="keeper")
    w.at(asked + DAY + 1)
    w.refused("demands: not due yet", d, "expire", terms, shown, 1, by="keeper")
    w.refused("escrow: not what was committed", d, "expire", terms, shown | {"pay": 1}, 0, by="keeper")
    w.refused("demands: no such demand", d, "expire", terms, shown, 4, by="keeper")

    def given_back(name: str) -> dict[Any, Any]:
        return {("demand", name, str(lane)): (False, *w.known["demand", name, str(lane)][1:]) for lane in range(8)}

    with w.branch():
        moves, sets, events = w.expired("job", terms)
        moves["claimable", "buyer"] = 7 * ANSWER_FEE
        held = (d, "DataWithheld", {"job": w.jobs["job"], "lane": 7})
        w.step(
            d, "expire", terms, shown, 7, by="keeper",
            moves=moves, sets=sets | given_back("job"), events=[held, *events],
        )  # fmt: skip
        w.refused("demands: no such demand", d, "expire", terms, shown, 7, by="keeper")
        w.refused("demands: no such demand", d, "answer", terms, shown, 7, bundle.proof(0), by="keeper")
        w.refused("demands: no such demand", d, "reclaim", terms, by="keeper")
        w.check()
    # Nobody came until the escrow's own time-out: it settles, and the fees come back all the same.
    w.at(shown["committed_at"] + terms["challenge_window"] + 7 * DAY)
    w.refused("escrow: dispute has timed out", d, "expire", terms, shown, 0, by="keeper")
    w.settle("job", terms, shown, by="keeper")
    w.refused("demands: job is not held", d, "answer", terms, shown, 0, bundle.proof(0), by="operator")
    w.refused("demands: job is not held", d, "demand", terms, shown, [0], by="buyer")
    w.refused("escrow: wrong state", d, "expire", terms, shown, 0, by="keeper")
    w.step(
        d, "reclaim", terms, by="keeper",
        moves={("claimable", "buyer"): 7 * ANSWER_FEE}, sets=given_back("job"), events=[],
    )  # fmt: skip
    w.refused("demands: no such demand", d, "reclaim", terms, by="keeper")
    w.check()

    # Fees of two jobs add up for each account.
    again, seen = start(w, "again", bundle, count=8)
    demand(w, "again", again, seen, [1], [0])
    assert w.known["claimable", "owner"] == 2 * ANSWER_FEE
    answer(w, "again", again, seen, 0, bundle, last=True)
    demand(w, "again", again, seen, [0, 2], [0, 1])
    w.at(w.now + DAY + 1)
    moves, sets, events = w.expired("again", again)
    moves["claimable", "buyer"] = 2 * ANSWER_FEE
    assert reference.compensation(again) > 0
    held = (d, "DataWithheld", {"job": w.jobs["again"], "lane": 1})
    w.step(
        d, "expire", again, seen, 1, by="thief",
        moves=moves, sets=sets | given_back("again"), events=[held, *events],
    )  # fmt: skip
    claimed = 9 * ANSWER_FEE
    w.step(
        d, "collect", w["buyer"], by="thief",
        moves={
            ("claimable", "buyer"): -claimed, ("balance", "buyer"): claimed,
            ("tokens", "demands"): -claimed, ("tokens", "escrow"): claimed,
        },
    )  # fmt: skip
    for view, value in (("ANSWER_FEE", ANSWER_FEE), ("ANSWER_WINDOW", DAY), ("LANES", 8)):
        assert w.read(d, view) == value
    assert w.read(d, "ESCROW") == w["escrow"]
    assert w.read(d, "TOKEN") == w["token"] != ZERO


SCENARIOS: tuple[Any, ...] = (demands, answers, withheld)
