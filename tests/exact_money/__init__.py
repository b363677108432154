# SPDX-License-Identifier: Apache-2.0
"""The contracts' money arithmetic against exact integers, on every combination of small domains."""
