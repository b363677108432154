# SPDX-License-Identifier: Apache-2.0
"""Why a provider's worker moved a job on: what its status and history say beside the reasons of runs."""

from __future__ import annotations

from enum import StrEnum

from gpubond.jobs.reasons import Fault


class WorkerCode(StrEnum):
    """Codes of the worker; a move that is due to a run carries the run's `Reason` instead."""

    POLICY = "policy"
    SPEC_INVALID = "spec_invalid"
    EXACT_TERMS = "exact_terms"
    EXACT_GAS = "exact_gas"
    EXACT_CROWDED = "exact_crowded"
    EXACT_TOO_SLOW = "exact_too_slow"
    INPUTS_MISSING = "inputs_missing"
    INPUTS_LOST = "inputs_lost"
    DEADLINE_PASSED = "deadline_passed"
    WORKER_RESTARTED = "worker_restarted"
    RETRY = "retry"
    REORG = "reorg"
    HIRE_REORGED = "hire_reorged"
    COMMITTED_BEFORE = "committed_before"
    COMMIT_REVERTED = "commit_reverted"
    SETTLE_REVERTED = "settle_reverted"
    DECLINE_REVERTED = "decline_reverted"

    @property
    def meaning(self) -> str:
        """One line saying what happened."""
        return _WORDS[self][0]

    @property
    def remedy(self) -> str:
        """One line saying what the buyer can do."""
        return _WORDS[self][1]

    @property
    def fault(self) -> Fault:
        """Where it lies: "none", "workload" (the buyer's job), "machine" (the provider's), "network" or "unknown"."""
        return _FAULTS[self]


_WORDS: dict[WorkerCode, tuple[str, str]] = {
    WorkerCode.POLICY: (
        "The hire or its specification is against the provider's policy, which the detail names.",
        "Lower the job's limits, or hire another provider.",
    ),
    WorkerCode.SPEC_INVALID: (
        "What was handed over as the specification, or the note that holds it, is not valid.",
        "Submit with this release of gpubond; `gpubond job validate` checks the file.",
    ),
    WorkerCode.EXACT_TERMS: (
        "The terms of an EXACT job are not those that its specification and this deployment's game ask for.",
        "Submit with this release of gpubond, and leave exact.answer_seconds to it.",
    ),
    WorkerCode.EXACT_GAS: (
        "The provider's operator has too little gas money to answer challenges of one more EXACT job.",
        "Hire another provider; nothing was spent.",
    ),
    WorkerCode.EXACT_CROWDED: (
        "The provider stands by as many EXACT results as it can defend against crowds of challengers.",
        "Hire another provider, or submit again when one of its jobs is final; nothing was spent.",
    ),
    WorkerCode.EXACT_TOO_SLOW: (
        "An EXACT run would not have ended in time, and such a job cannot fail.",
        "Pay for a longer run (limits.seconds), take fewer steps, or hire another provider.",
    ),
    WorkerCode.INPUTS_MISSING: (
        "The inputs had not arrived shortly before the end of the acknowledgement window.",
        "Submit again, and leave `gpubond job submit` running until the upload ends.",
    ),
    WorkerCode.INPUTS_LOST: (
        "Inputs that had arrived are gone from the provider's disk.",
        "`gpubond job upload` sends them again; what does not come back in time is declined or expires.",
    ),
    WorkerCode.DEADLINE_PASSED: (
        "The worker could not deliver before the deadline.",
        "`gpubond job expire` refunds and compensates you.",
    ),
    WorkerCode.WORKER_RESTARTED: ("The worker restarted during the run, which begins anew.", "None needed."),
    WorkerCode.RETRY: ("The run failed by no fault of the job's and is tried again.", "None needed."),
    WorkerCode.REORG: ("The chain took the commitment back; it is sent again.", "None needed."),
    WorkerCode.HIRE_REORGED: (
        "The chain took the hire back, and it has not returned.",
        "Your money is back in your balance: submit again.",
    ),
    WorkerCode.COMMITTED_BEFORE: (
        "The chain has a commitment that this worker's store did not know of.",
        "None needed; if its gateway does not serve the result, see `gpubond job demand`.",
    ),
    WorkerCode.COMMIT_REVERTED: (
        "The contract refused the commitment again and again.",
        "Wait for the deadline; then `gpubond job expire` refunds and compensates you.",
    ),
    WorkerCode.SETTLE_REVERTED: (
        "The contract refused the provider's settlement again and again.",
        "None needed; `gpubond job release` settles it as well.",
    ),
    WorkerCode.DECLINE_REVERTED: (
        "The contract refused the decline again and again: it came too late.",
        "Wait for the deadline; then `gpubond job expire` refunds and compensates you.",
    ),
}

# The network is what lies between buyer, provider and chain.
_FAULTS: dict[WorkerCode, Fault] = {
    WorkerCode.POLICY: "workload",
    WorkerCode.SPEC_INVALID: "workload",
    WorkerCode.EXACT_TERMS: "workload",
    WorkerCode.EXACT_GAS: "machine",
    WorkerCode.EXACT_CROWDED: "machine",
    WorkerCode.EXACT_TOO_SLOW: "unknown",
    WorkerCode.INPUTS_MISSING: "network",
    WorkerCode.INPUTS_LOST: "machine",
    WorkerCode.DEADLINE_PASSED: "machine",
    WorkerCode.WORKER_RESTARTED: "machine",
    WorkerCode.RETRY: "unknown",
    WorkerCode.REORG: "network",
    WorkerCode.HIRE_REORGED: "network",
    WorkerCode.COMMITTED_BEFORE: "none",
    WorkerCode.COMMIT_REVERTED: "unknown",
    WorkerCode.SETTLE_REVERTED: "unknown",
    WorkerCode.DECLINE_REVERTED: "machine",
}
