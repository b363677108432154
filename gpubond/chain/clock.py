# SPDX-License-Identifier: Apache-2.0
"""The chain's clock for one look at many jobs: asked when it is first needed, and once."""

from __future__ import annotations

from web3 import Web3

from gpubond.errors import Unreachable


class HeadClock:
    """Number and time of the latest block, the same from one `renew` to the next.

    So a look at a thousand jobs asks the node once, and at none that needs no clock not at all. A node that did not
    answer is not asked again either. What is read may be as old as the look: the static call before a transaction sees
    the newest block.
    """

    def __init__(self, node: Web3) -> None:
        self._node = node
        self._head: tuple[int, int] | Unreachable | None = None

    def renew(self) -> None:
        """The next question goes to the node again."""
        self._head = None

    def now(self) -> int:
        """The latest block's time, by which every deadline is judged (Unix seconds).

        Raises:
            Unreachable: the node does not answer.
        """
        return self._read()[1]

    def block_number(self) -> int:
        """The latest block's number. Raises as `now`."""
        return self._read()[0]

    def _read(self) -> tuple[int, int]:
        if self._head is None:
            try:
                block = self._node.eth.get_block("latest")
                self._head = int(block["number"]), int(block["timestamp"])
            except Unreachable as error:
                self._head = error
        if isinstance(self._head, Unreachable):
            raise self._head
        return self._head
