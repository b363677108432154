# SPDX-License-Identifier: Apache-2.0
"""GpuBond: rent GPU time from strangers and hold them to account."""

__version__ = "0.1.0"
