# SPDX-License-Identifier: Apache-2.0
"""Exact programs: computation whose result is the same bits on every machine. See docs/exact.md, which is normative.

This package knows no chain, no jobs and no worker, and imports nothing else of gpubond.
"""
