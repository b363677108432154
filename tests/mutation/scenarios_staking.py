# SPDX-License-Identifier: Apache-2.0
"""Scenarios of ProviderStaking: stake, allowances, locks, slashes, and tokens that misbehave."""

from __future__ import annotations

from typing import Any

from .world import STAKE, USD, ZERO, World

MOST = 2**85 - 1
LOCKER = ("allowance", "owner", "locker")
JOB = b"\x77" * 32


def register(w: World) -> None:
    """Operators, and who may announce an endpoint."""
    s = w.staking
    w.refused("staking: already registered", s, "register", w["operator"], "", by="owner")
    w.refused("staking: operator is zero", s, "register", ZERO, "", by="rival")
    w.refused("staking: not registered", s, "set_operator", w["thief"], by="rival")
    w.refused("staking: operator is zero", s, "set_operator", ZERO, by="owner")
    for account in ("buyer", "rival"):
        w.refused("staking: not owner or operator", s, "set_endpoint", w["owner"], "x", by=account)
    # Who never registered has the zero address as its operator, which is nobody.
    w.refused("staking: not owner or operator", s, "set_endpoint", w["rival"], "x", by="rival")
    for account in ("owner", "operator"):
        event = (s, "EndpointSet", {"provider": w["owner"], "endpoint": "x"})
        w.step(s, "set_endpoint", w["owner"], "x", by=account, events=[event])
    registered = {"provider": w["rival"], "operator": w["rival"], "endpoint": "y" * 128}
    w.step(
        s, "register", w["rival"], "y" * 128, by="rival",
        sets={("operator", "rival"): w["rival"]}, events=[(s, "Registered", registered)],
    )  # fmt: skip
    w.step(
        s, "set_operator", w["thief"], by="owner",
        sets={("operator", "owner"): w["thief"]},
        events=[(s, "OperatorSet", {"provider": w["owner"], "operator": w["thief"]})],
    )  # fmt: skip
    w.refused("staking: not owner or operator", s, "set_endpoint", w["owner"], "x", by="operator")
    for account, works in (("owner", True), ("thief", True), ("operator", False), ("rival", False)):
        assert w.read(s, "is_operator", w["owner"], w[account]) is works
    assert w.read(s, "is_operator", w["buyer"], w["buyer"]) is False
    assert w.read(s, "is_operator", w["buyer"], ZERO) is False


def stake(w: World) -> None:
    """Stake comes in and goes out."""
    s = w.staking
    w.refused("staking: amount is zero", s, "stake", 0, by="owner")
    w.refused("staking: provider is zero", s, "stake", 1, ZERO, by="owner")
    w.refused("staking: provider is the staking contract", s, "stake", 1, w["staking"], by="owner")
    w.step(
        s, "stake", 5, by="owner",
        moves={("free", "owner"): 5, ("tokens", "owner"): -5, ("tokens", "staking"): 5},
        events=[(s, "Staked", {"provider": w["owner"], "payer": w["owner"], "amount": 5})],
    )  # fmt: skip
    w.step(
        s, "stake", 7, w["rival"], by="thief",
        moves={("free", "rival"): 7, ("tokens", "thief"): -7, ("tokens", "staking"): 7},
        events=[(s, "Staked", {"provider": w["rival"], "payer": w["thief"], "amount": 7})],
    )  # fmt: skip
    w.refused("staking: amount is zero", s, "withdraw", 0, by="owner")
    w.refused("staking: receiver is zero", s, "withdraw", 1, ZERO, by="owner")
    w.refused("staking: receiver is the staking contract", s, "withdraw", 1, w["staking"], by="owner")
    w.refused("staking: not enough free stake", s, "withdraw", 8, by="rival")
    w.step(
        s, "withdraw", 6, by="rival",
        moves={("free", "rival"): -6, ("tokens", "rival"): 6, ("tokens", "staking"): -6},
        events=[(s, "Withdrawn", {"provider": w["rival"], "receiver": w["rival"], "amount": 6})],
    )  # fmt: skip
    w.step(
        s, "withdraw", 1, w["receiver"], by="rival",
        moves={("free", "rival"): -1, ("tokens", "receiver"): 1, ("tokens", "staking"): -1},
        events=[(s, "Withdrawn", {"provider": w["rival"], "receiver": w["receiver"], "amount": 1})],
    )  # fmt: skip


def allow(w: World, locker: str, total: int, per_job: int, free: int) -> None:
    """Sets an allowance of the owner; its free stake moves by `free`."""
    locked = w.known["allowance", "owner", locker][2]
    fields = {"provider": w["owner"], "locker": w[locker], "total": total, "per_job": per_job}
    w.step(
        w.staking, "allow", w[locker], total, per_job, by="owner",
        moves={("free", "owner"): free}, sets={("allowance", "owner", locker): (total, per_job, locked)},
        events=[(w.staking, "Allowed", fields)],
    )  # fmt: skip


def allowances(w: World) -> None:
    """Allowances, locks beyond them, and revocation."""
    s = w.staking
    free = w.known["free", "owner"]
    w.refused("staking: locker is no contract", s, "allow", w["thief"], 1, 1, by="owner")
    w.refused("staking: per job above total", s, "allow", w["locker"], 5, 6, by="owner")
    w.refused("staking: amount too large", s, "allow", w["locker"], MOST + 1, 1, by="owner")
    w.refused("staking: not enough free stake", s, "allow", w["locker"], MOST, 1, by="owner")
    w.refused("staking: not enough free stake", s, "allow", w["locker"], free + 1, 1, by="owner")
    w.accepted(s, "allow", w["locker"], free, free, by="owner")
    w.accepted(s, "allow", w["thief"], 0, 0, by="owner")
    allow(w, "locker", 100, 30, -100)
    allow(w, "locker", 60, 30, 40)
    allow(w, "locker", 100, 30, -40)

    lock = ("lock", "unlock")
    for function in lock:
        reason = "staking: above allowance per job" if function == "lock" else "staking: not locked"
        w.refused(reason, s, function, w["owner"], 1, by="thief")
    w.refused("staking: amount is zero", w.locker, "lock", w["owner"], 0, by="keeper")
    w.refused("staking: above allowance per job", w.locker, "lock", w["owner"], 31, by="keeper")
    w.refused("staking: not locked", w.locker, "unlock", w["owner"], 1, by="keeper")
    for locked in (30, 60, 90):
        w.step(w.locker, "lock", w["owner"], 30, by="keeper", sets={LOCKER: (100, 30, locked)}, events=[])
    w.refused("staking: above allowance", w.locker, "lock", w["owner"], 11, by="keeper")
    w.step(w.locker, "lock", w["owner"], 10, by="keeper", sets={LOCKER: (100, 30, 100)}, events=[])
    w.refused("staking: above allowance", w.locker, "lock", w["owner"], 1, by="keeper")
    w.refused("staking: not locked", w.locker, "unlock", w["owner"], 101, by="keeper")
    with w.branch():
        w.step(w.locker, "unlock", w["owner"], 100, by="keeper", sets={LOCKER: (100, 30, 0)}, events=[])
        w.step(w.locker, "lock", w["owner"], 1, by="keeper", sets={LOCKER: (100, 30, 1)}, events=[])
        w.check()
    w.step(w.locker, "unlock", w["owner"], 20, by="keeper", sets={LOCKER: (100, 30, 80)}, events=[])

    # A revocation frees what is not locked; unlocking frees the rest, down to the total.
    allow(w, "locker", 25, 5, 20)
    w.refused("staking: above allowance", w.locker, "lock", w["owner"], 1, by="keeper")
    with w.branch():
        moves = {("free", "owner"): 55}
        w.step(w.locker, "unlock", w["owner"], 80, by="keeper", moves=moves, sets={LOCKER: (25, 5, 0)}, events=[])
        w.check()
    moves = {("free", "owner"): 50}
    w.step(w.locker, "unlock", w["owner"], 50, by="keeper", moves=moves, sets={LOCKER: (25, 5, 30)}, events=[])
    with w.branch():
        # What is locked beyond a total stays allocated until it is unlocked.
        allow(w, "locker", 0, 0, 0)
        moves = {("free", "owner"): 1}
        w.step(w.locker, "unlock", w["owner"], 1, by="keeper", moves=moves, sets={LOCKER: (0, 0, 29)}, events=[])
        moves = {("free", "owner"): 29}
        w.step(w.locker, "unlock", w["owner"], 29, by="keeper", moves=moves, sets={LOCKER: (0, 0, 0)}, events=[])
        w.check()
    moves = {("free", "owner"): 5}
    w.step(w.locker, "unlock", w["owner"], 10, by="keeper", moves=moves, sets={LOCKER: (25, 5, 20)}, events=[])
    w.step(w.locker, "unlock", w["owner"], 10, by="keeper", sets={LOCKER: (25, 5, 10)}, events=[])


def slash(w: World, amount: int, to_buyer: int, to_challenger: int, allowance: tuple[int, int, int]) -> None:
    """Slashes locks of the locker."""
    burned = amount - to_buyer - to_challenger
    shares = {"to_buyer": to_buyer, "to_challenger": to_challenger, "burned": burned}
    w.step(
        w.locker, "slash", w["owner"], JOB, amount, to_buyer, to_challenger, by="keeper",
        moves={("owed", "locker"): to_buyer + to_challenger, ("burned", "locker"): burned},
        sets={LOCKER: allowance},
        events=[(w.staking, "Slashed", {"provider": w["owner"], "locker": w["locker"], "job": JOB, **shares})],
    )  # fmt: skip


def slashes(w: World) -> None:
    """Slashes, before and after a revocation, and what lockers collect."""
    allow(w, "locker", 100, 60, -100)
    for amount in (60, 30):
        assert w.chain.call(w.locker, "lock", w["owner"], amount, sender=w["keeper"]).ok
    w.known[LOCKER] = (100, 60, 90)
    w.refused("staking: amount is zero", w.locker, "slash", w["owner"], JOB, 0, 0, 0, by="keeper")
    w.refused("staking: not locked", w.locker, "slash", w["owner"], JOB, 91, 0, 0, by="keeper")
    w.refused("staking: not locked", w.staking, "slash", w["owner"], JOB, 1, 0, 0, by="thief")
    w.refused("staking: shares above lock", w.locker, "slash", w["owner"], JOB, 30, 20, 11, by="keeper")
    most = 2**256 - 1
    for to_buyer, to_challenger in ((most, 1), (1, most), (most, most), (30, 1), (31, 0), (0, 31)):
        shares = (to_buyer, to_challenger)
        w.refused("staking: shares above lock", w.locker, "slash", w["owner"], JOB, 30, *shares, by="keeper")
    w.refused("staking: nothing owed", w.locker, "collect", by="keeper")
    w.accepted(w.locker, "slash", w["owner"], JOB, 90, 90, 0, by="keeper")
    w.accepted(w.locker, "slash", w["owner"], JOB, 30, 20, 10, by="keeper")
    slash(w, 30, 11, 7, (70, 60, 60))
    slash(w, 3, 0, 0, (67, 60, 57))
    allow(w, "locker", 20, 20, 10)
    slash(w, 15, 4, 1, (5, 20, 42))
    slash(w, 12, 2, 3, (0, 20, 30))
    w.check()
    with w.branch():
        # The slashed part of an allowance is lost: the rest can be taken back, no more.
        allow(w, "locker", 0, 0, 0)
        w.step(
            w.locker, "unlock", w["owner"], 30, by="keeper",
            moves={("free", "owner"): 30}, sets={LOCKER: (0, 0, 0)}, events=[],
        )  # fmt: skip
        w.check()
    w.refused("staking: nothing owed", w.staking, "collect", by="thief")
    w.step(
        w.locker, "collect", by="thief", returns=28,
        moves={("owed", "locker"): -28, ("tokens", "locker"): 28, ("tokens", "staking"): -28},
        events=[(w.staking, "Collected", {"locker": w["locker"], "amount": 28})],
    )  # fmt: skip
    w.refused("staking: nothing owed", w.locker, "collect", by="keeper")
    slash(w, 2, 1, 0, (0, 20, 28))


def widths(w: World) -> None:
    """The packed fields hold their greatest values and never touch each other."""
    s = w.staking
    for name in ("token", "owner"):
        assert w.chain.call(w.token, "mint", w[name], 4 * MOST, sender=w["admin"]).ok
    w.known["tokens", "owner"] += 4 * MOST
    w.known["tokens", "token"] += 4 * MOST
    w.step(
        s, "stake", 3 * MOST, by="owner",
        moves={("free", "owner"): 3 * MOST, ("tokens", "owner"): -3 * MOST, ("tokens", "staking"): 3 * MOST},
    )  # fmt: skip
    w.refused("staking: amount too large", s, "allow", w["locker"], MOST + 1, 1, by="owner")
    allow(w, "locker", MOST, MOST, -MOST)
    w.refused("staking: above allowance per job", w.locker, "lock", w["owner"], MOST + 1, by="keeper")
    w.step(w.locker, "lock", w["owner"], MOST, by="keeper", sets={LOCKER: (MOST, MOST, MOST)})
    w.refused("staking: above allowance", w.locker, "lock", w["owner"], 1, by="keeper")
    w.refused("staking: not locked", w.locker, "unlock", w["owner"], MOST + 1, by="keeper")
    with w.branch():
        w.step(w.locker, "unlock", w["owner"], MOST, by="keeper", sets={LOCKER: (MOST, MOST, 0)})
        allow(w, "locker", 0, 0, MOST)
    half = MOST // 2
    slash(w, half, half, 0, (MOST - half, MOST, MOST - half))
    slash(w, MOST - half, 1, 2, (0, MOST, 0))
    w.check()


def tokens(w: World) -> None:
    """Tokens that refuse, keep a fee or give more than was sent."""
    s, t = w.staking, w.token

    def switch(function: str, *args: Any) -> None:
        assert w.chain.call(t, function, *args, sender=w["admin"]).ok

    with w.branch():
        switch("set_returns_false", True)
        w.refused("staking: transfer failed", s, "stake", 5, by="owner")
        w.refused("staking: transfer failed", s, "withdraw", 5, by="owner")
    with w.branch():
        switch("set_fee_bps", 1_000)
        w.refused("staking: token takes a fee", s, "stake", 500, by="owner")
    with w.branch():
        mint = t.functions["mint", 2].call_data([w["staking"], 3])
        switch("set_callback", w["token"], mint)
        w.refused("staking: token takes a fee", s, "stake", 500, by="owner")
    with w.branch():
        switch("set_callback", w["staking"], s.functions["collect", 0].call_data([]))
        w.accepted(s, "stake", 500, by="owner")
    allow(w, "locker", USD, USD, -USD)
    assert w.chain.call(w.locker, "lock", w["owner"], 50, sender=w["keeper"]).ok
    w.known[LOCKER] = (USD, USD, 50)
    slash(w, 20, 10, 0, (USD - 20, USD, 30))
    with w.branch():
        switch("set_returns_false", True)
        w.refused("staking: transfer failed", w.locker, "collect", by="keeper")
    assert STAKE > USD


SCENARIOS = (register, stake, allowances, slashes, widths, tokens)
