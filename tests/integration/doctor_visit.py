# SPDX-License-Identifier: Apache-2.0
"""The doctor at a machine with four things wrong at once: no gas money, no sandbox, a foreign program at the gateway's
port, and a disk that is too small for the jobs."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from web3.types import RPCEndpoint

from gpubond.chain.development import dev_account

from .marketplace import Marketplace

# The checks that see them.
WRONG = {"gas-operator", "sandbox", "port", "disk"}


@dataclass(frozen=True)
class Visit:
    """What the doctor showed; `operator` has no gas money, and a foreign program is at `port`."""

    seen: Any
    operator: str
    port: int


def visit(
    market: Marketplace,
    home: Path,
    port: int,
    operator: int,
    more: tuple[str, ...],
    run: Callable[[tuple[str, ...], dict[str, str]], Any],
) -> Visit:
    """Breaks four things of a provider that is well, lets the doctor look, and mends them.

    Args:
        home: of the provider.
        port: of its gateway.
        operator: its development account.
        more: options for the doctor.
        run: runs a command line with an environment.
    """
    address = str(dev_account(operator).address)
    settings = home / "gpubond.toml"
    good = settings.read_text()
    had = market.node.eth.get_balance(dev_account(operator).address)
    _set_balance(market, address, 0)
    # A petabyte for one job, which no test machine has.
    settings.write_text(good.replace("[provider]\n", "[provider]\nmax_disk_mib = 1000000000\n"))
    try:
        with socket.socket() as foreign:
            foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            foreign.bind(("127.0.0.1", port))
            foreign.listen()
            # Where the program is, and no other.
            seen = run(("provider", "doctor", *more), {"PATH": os.path.dirname(sys.executable)})  # noqa: PTH120
    finally:
        settings.write_text(good)
        _set_balance(market, address, had)
    return Visit(seen, address, port)


def _set_balance(market: Marketplace, address: str, wei: int) -> None:
    answer = market.node.provider.make_request(RPCEndpoint("anvil_setBalance"), [address, hex(wei)])
    assert "error" not in answer, answer
