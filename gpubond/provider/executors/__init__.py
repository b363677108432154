# SPDX-License-Identifier: Apache-2.0
"""Executors: each runs one attempt at a job and reports how it ended."""

from gpubond.provider.executors.attempt import Attempt, Executor

__all__ = ["Attempt", "Executor"]
