# SPDX-License-Identifier: Apache-2.0
"""The dispute game over runs of exact programs (docs/disputes.md): its rules, and the players of both sides."""
