# SPDX-License-Identifier: Apache-2.0
"""One worker a key on this machine: a lock that vanishes with its process, however that ends.

It is a Unix socket in Linux's abstract namespace: no file is left behind, and the kernel releases the name
when the process is gone. It reaches as far as the network namespace: not across machines or containers. There
the sender notices a foreign transaction by its nonce.
"""

from __future__ import annotations

import errno
import socket
import time
from pathlib import Path
from types import TracebackType

from gpubond.errors import KeyInUse

POLL_INTERVAL = 0.05
_PREFIX = "gpubond-key:"
_SOCKETS = Path("/proc/net/unix")


def is_held(address: str) -> bool:
    """Whether some process here holds the lock of a key, on whatever chain. Looks without taking it."""
    # Abstract names are shown with an @ for the leading zero.
    names = (line.split()[-1] for line in _SOCKETS.read_text(errors="replace").splitlines())
    return any(name.startswith(f"@{_PREFIX}") and name.endswith(f":{address.lower()}") for name in names)


class KeyLock:
    """The exclusive right to send with one key on one chain, from `acquire` to `release` or the process end.

    Args:
        chain_id: the chain.
        address: the key's address.
        timeout: seconds to wait for another holder; 0 refuses at once.
        genesis: 0x-hash of the chain's first block, which tells local chains of one id apart; empty if unknown.
    """

    def __init__(self, chain_id: int, address: str, timeout: float = 0.0, genesis: str = "") -> None:
        self.chain_id = chain_id
        self.address = address
        self._timeout = timeout
        # The kernel takes 107 bytes.
        self._name = f"\0{_PREFIX}{chain_id}:{genesis[:18]}:{address.lower()}"
        self._socket: socket.socket | None = None

    @property
    def held(self) -> bool:
        return self._socket is not None

    def acquire(self) -> None:
        """Take the lock; taking it twice through one object changes nothing.

        Raises:
            KeyInUse: another process, or another object in this one, holds it.
        """
        if self._socket is not None:
            return
        deadline = time.monotonic() + self._timeout
        while True:
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                claim.bind(self._name)
            except OSError as error:
                claim.close()
                if error.errno != errno.EADDRINUSE:
                    raise
                if time.monotonic() >= deadline:
                    raise KeyInUse(
                        f"another worker on this machine uses {self.address} on chain {self.chain_id}",
                        field="key",
                        value=self.address,
                        remedy="stop one of the two, or give each its own key",
                    ) from None
                time.sleep(POLL_INTERVAL)
            else:
                self._socket = claim
                return

    def release(self) -> None:
        """Give the lock back."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> KeyLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
