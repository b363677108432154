# SPDX-License-Identifier: Apache-2.0
"""Where the published figures come from.

This file makes it a package: one of the tools installs a package of the same name, which would be found first.
"""
