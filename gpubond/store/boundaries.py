# SPDX-License-Identifier: Apache-2.0
"""The moments at which a worker, or a buyer's program, may die: each has a name here, and a test kills a real one at
every one.

In production `boundary` does nothing. A test names one in GPUBOND_TEST_KILL_AT, as `move:before:ready`, or with
`#2` for the second time; the process that reaches it gets SIGKILL, which is all that can be asked for. Only the
environment of the process's start arms it: no setting, no request and no event does.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading

ARM = "GPUBOND_TEST_KILL_AT"

# Where a worker moves a job to: the states of `gpubond.provider.work`, as a test checks. Not `convicted`: jobs that
# can be are declined, and its move is that of the other ends.
MOVES = (
    "hired",
    "awaiting_inputs",
    "ready",
    "running",
    "cancelling",
    "executed",
    "committing",
    "committed",
    "settling",
    "declining",
    "settled",
    "declined",
    "expired",
    "abandoned",
)
# What a worker sends.
ACTIONS = ("commit", "settle", "decline")

# Name -> the cases in which it is told apart; none: it is one moment.
BOUNDARIES: dict[str, tuple[str, ...]] = {
    # The watcher: events were read, stored (but not committed), committed; a reorg is forgotten alike.
    "watch:seen": (),
    "watch:in_store": (),
    "watch:stored": (),
    "rollback:seen": (),
    "rollback:in_store": (),
    "rollback:stored": (),
    # The worker's own record of a job.
    "adopt:before": (),
    "adopt:in_store": (),
    "adopt:after": (),
    "move:before": MOVES,
    "move:after": MOVES,
    # The run.
    "inputs:complete": (),
    "inputs:noted": (),
    "run:before_start": (),
    "run:started": (),
    "run:during": (),
    "run:ended": (),
    "run:kept": (),
    # A transaction: tried, stored, broadcast, its receipt asked for, its outcome stored.
    "send:tried": ACTIONS,
    "send:in_store": ACTIONS,
    "send:stored": ACTIONS,
    "send:broadcast": ACTIONS,
    "receipt:before": ACTIONS,
    "receipt:read": ACTIONS,
    "mined:in_store": ACTIONS,
    "mined:stored": ACTIONS,
    # With confirmations; after a reorg; when fees rise; when somebody else used the nonce, or left one out.
    "confirmed:before": (),
    "confirmed:stored": (),
    "unmined:before": (),
    "unmined:stored": (),
    "bump:before": (),
    "bump:stored": (),
    "displaced:before": (),
    "displaced:stored": (),
    "gap:before": (),
    "gap:stored": (),
}

# The steps of a buyer's submission, in their order. What comes after one is taken again by `gpubond job resume`, and
# nothing before it a second time.
BUYER_BOUNDARIES = (
    "buy:submission_stored",
    "buy:funds_ready",
    "buy:hire_mined",
    "buy:job_noted",
    "buy:blob_sent",
    "buy:uploaded",
    "buy:end_seen",
    "buy:next_stored",
)
# Of those whose provider has no gateway: inputs and note lie in the buyer's store, and nothing was sent.
STORE_BOUNDARIES = ("buy:note_stored",)
# Of whoever plays a dispute game, and of a watchtower.
DISPUTE_BOUNDARIES = ("game:computed", "game:sent", "watchtower:noted")
# Of the sender's boundaries those that a buyer's transactions make another story of.
BUYER_SENDS = ("send:stored:deposit", "send:stored:hire", "send:broadcast:hire")


def names() -> list[str]:
    """All boundaries of a worker, one for each case."""
    return [full for name, cases in BOUNDARIES.items() for full in ([f"{name}:{case}" for case in cases] or [name])]


def _armed() -> tuple[str, int] | None:
    text = os.environ.get(ARM)
    if not text:
        return None
    name, _, time = text.partition("#")
    known = (*names(), *BUYER_SENDS, *BUYER_BOUNDARIES, *STORE_BOUNDARIES, *DISPUTE_BOUNDARIES)
    if name not in known or not (time or "1").isdigit():
        raise SystemExit(f"{ARM}: there is no boundary {text!r}")
    return name, int(time or "1")


_ARMED = _armed()
_passed = itertools.count(1)
_guard = threading.Lock()


def boundary(name: str, case: str | None = None) -> None:
    """Says that the process has come to a moment of that name; see `BOUNDARIES` and `BUYER_BOUNDARIES`."""
    if _ARMED is None:
        return
    if _ARMED[0] == (name if case is None else f"{name}:{case}"):
        with _guard:
            if next(_passed) == _ARMED[1]:
                os.kill(os.getpid(), signal.SIGKILL)
