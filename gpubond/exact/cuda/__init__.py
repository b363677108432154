# SPDX-License-Identifier: Apache-2.0
"""Exact programs on a CUDA GPU: kernels, their compilation, what a program launches. See docs/exact-cuda.md."""
