# SPDX-License-Identifier: Apache-2.0
"""Which of the driver's errors (Xids) are the machine's, by the table in jobs/causes.py.

Most Xids follow from what a program does: an address out of bounds (31), an exception of a kernel (13), what a program
leaves when it is ended (43, 45). Those say nothing against a provider, and whoever could have them taken for a fault
of the machine could spoil its record. So only what a program cannot bring about by itself counts; any other is noted
in the log of the job, whose own ending stands.
"""

from __future__ import annotations

from gpubond.jobs.causes import XIDS
from gpubond.jobs.reasons import Reason

# A job on that GPU cannot be trusted to have run as it should.
MACHINE_XIDS = frozenset(number for number, xid in XIDS.items() if xid.reason is Reason.GPU_FAULT)
# Signs of ageing, for the owner; the job that runs is not touched.
AGEING_XIDS = frozenset({63, 92})


def words(number: int) -> str:
    """What an Xid says, in words, with its number."""
    known = XIDS.get(number)
    return f"Xid {number}" if known is None else f"Xid {number}: {known.meaning}"
