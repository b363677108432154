# SPDX-License-Identifier: Apache-2.0
"""The provider's side of cheap games as a process of its own, which a test kills at any moment: index, outbox, player
are the worker's. Only what was computed comes from tasks that both know, not from a store.

python -m tests.disputes.cheap_player HOME
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Any, cast

from gpubond.chain.index import JobRecord
from gpubond.chain.sender import Sender
from gpubond.chain.session import LOCK_TIMEOUT, Session, open_session
from gpubond.disputes.playing import Known
from gpubond.errors import GpuBondError
from gpubond.exact.program import Opcode
from gpubond.provider.disputing import Disputing
from tests.disputes.play import Honest
from tests.disputes.tasks import single_task

logger = logging.getLogger(__name__)
PAUSE = 0.02


def cheap() -> list[Honest]:
    """Runs with games of few moves."""
    return [Honest.of(task) for task in (single_task(), single_task(2, 1), single_task(3, 2, Opcode.MUL))]


class Standing(Disputing):
    """Stands by runs of these tasks."""

    def __init__(self, session: Session, sender: Sender) -> None:
        provider = session.settings.provider
        assert provider is not None
        # What a run is loaded from is not looked at.
        nothing = cast(Any, None)
        super().__init__(session, sender, nothing, nothing, nothing, provider)
        self._runs = {one.terms.exact_terms: Known(one.terms, one.execution) for one in cheap()}

    def _known_of(self, record: JobRecord) -> Known:
        return self._runs[record.terms.exact_terms]


def main(home: Path) -> None:
    """Plays until it is killed."""
    logging.basicConfig(level=logging.INFO)
    with open_session(home) as session, session.sender(LOCK_TIMEOUT) as sender:
        standing = Standing(session, sender)
        logger.info("is up")
        while True:
            try:
                session.sync()
                sender.poll()
                standing.tick()
            except GpuBondError as error:
                logger.warning("%s", error)
            time.sleep(PAUSE)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
