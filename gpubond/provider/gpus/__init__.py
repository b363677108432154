# SPDX-License-Identifier: Apache-2.0
"""The machine's GPUs: which job gets which, what is watched and measured meanwhile, and that nothing stays behind."""
