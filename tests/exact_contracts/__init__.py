# SPDX-License-Identifier: Apache-2.0
"""The contracts' part of exact programs against the reference in Python."""
