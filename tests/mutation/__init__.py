# SPDX-License-Identifier: Apache-2.0
"""Mutation testing of the contracts: wrong contracts that a fast suite must tell from the right ones."""
