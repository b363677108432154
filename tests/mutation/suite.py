# SPDX-License-Identifier: Apache-2.0
"""The fast suite: what a mutant must pass to survive."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from . import (
    scenarios_batches,
    scenarios_demands,
    scenarios_jobs,
    scenarios_matching,
    scenarios_rights,
    scenarios_staking,
    scenarios_views,
)
from .chain import Program
from .world import World, furnish

Scenario = Callable[[World], None]

# The parts are run from the one that is nearest to the change, so that a mutant falls early.
PARTS: dict[str, tuple[Scenario, ...]] = {
    "staking": scenarios_staking.SCENARIOS,
    "matching": scenarios_matching.SCENARIOS,
    "jobs": (*scenarios_jobs.SCENARIOS, *scenarios_batches.SCENARIOS, *scenarios_rights.SCENARIOS),
    "demands": scenarios_demands.SCENARIOS,
    "views": scenarios_views.SCENARIOS,
}
_NEAREST = {
    "ProviderStaking.vy": "staking",
    "JobEscrow.vy": "jobs",
    "DataDemands.vy": "demands",
    "JobEscrowViews.vy": "views",
    "modules/merkle.vy": "demands",
    "modules/terms.vy": "jobs",
    "modules/blocks.vy": "views",
}


def scenarios(file: str = "") -> list[Scenario]:
    """All scenarios, those nearest to a file of the contracts first."""
    nearest = _NEAREST.get(file, "matching")
    names = sorted(PARTS, key=lambda name: name != nearest)
    return [scenario for name in names for scenario in PARTS[name]]


def failure(programs: Mapping[str, Program], real: Mapping[str, Program], file: str = "") -> str:
    """Runs all scenarios; the first failure in words, or nothing. Any error counts, also of decoding."""
    try:
        world = World(programs, real)
        furnish(world)
    except Exception as error:
        return f"installation: {type(error).__name__}: {error}"[:300]
    for scenario in scenarios(file):
        try:
            with world.branch():
                scenario(world)
                world.check()
        except Exception as error:
            return f"{scenario.__name__}: {type(error).__name__}: {error}"[:300]
    return ""
