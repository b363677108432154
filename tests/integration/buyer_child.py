# SPDX-License-Identifier: Apache-2.0
"""The command line in a process of its own, killed at a named moment: `buyer_child.py MOMENT gpubond-arguments…`.

MOMENT is a boundary of the buyer's, or a moment of the sender's: "hire stored" (signed and stored, not broadcast) or
"hire broadcast" (at the node, no receipt yet).
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from gpubond.buyer import boundaries
from gpubond.chain.sender import Sender
from gpubond.cli.main import main

SENDER_MOMENTS = ("deposit stored", "hire stored", "hire broadcast")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(moment: str) -> None:
    if moment not in SENDER_MOMENTS:
        wanted = boundaries.Boundary(moment)

        def on_boundary(passed: boundaries.Boundary) -> None:
            if passed == wanted:
                _die()

        boundaries.on_boundary = on_boundary
        return
    broadcast = Sender._broadcast
    action, when = moment.split()

    def dying(self: Sender, entry: Any) -> None:
        ours = entry.purpose.startswith(f"{action}:")
        if ours and when == "stored":
            _die()
        broadcast(self, entry)
        if ours:
            _die()

    Sender._broadcast = dying  # type: ignore[method-assign]


if __name__ == "__main__":
    _arm(sys.argv[1])
    main.main(sys.argv[2:], prog_name="gpubond")
