# SPDX-License-Identifier: Apache-2.0
"""Which of the driver's errors (Xids) are the machine's, after NVIDIA's catalogue of them.

Most Xids follow from what a program does: an address out of bounds (31), an exception of a kernel (13), what a program
leaves when it is ended (43, 45). Those say nothing against a provider, and whoever could have them taken for a fault
of the machine could spoil its record. So only what a program cannot bring about by itself is here; any other is noted
in the log of the job, whose own ending stands.
"""

from __future__ import annotations

# Number -> what it says. A job on that GPU cannot be trusted to have run as it should.
MACHINE_XIDS: dict[int, str] = {
    48: "an ECC error in its memory that could not be corrected",
    62: "its internal controller halted",
    64: "a faulty piece of its memory could not be set aside",
    74: "an error of its NVLink",
    79: "it has fallen off the bus",
    94: "an ECC error that was contained to the job",
    95: "an ECC error that was not contained",
    119: "its system processor does not answer",
    120: "an error of its system processor",
    140: "an ECC error that it did not recover from",
    143: "it could not be initialised",
}
# Signs of ageing, for the owner; the job that runs is not touched.
AGEING_XIDS: dict[int, str] = {
    63: "a faulty piece of its memory was set aside",
    92: "many ECC errors that were corrected",
}


def words(number: int) -> str:
    """What an Xid says, in words, with its number."""
    known = MACHINE_XIDS.get(number) or AGEING_XIDS.get(number)
    return f"Xid {number}" if known is None else f"Xid {number}: {known}"
