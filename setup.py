# SPDX-License-Identifier: Apache-2.0
"""The C engine of exact programs as an optional part of the package; everything else is in pyproject.toml.

Where it cannot be compiled, installing goes on without it: gpubond then looks for a compiler when it needs one, and
says what it costs if there is none. The library is no Python module; ctypes loads it, so one file serves all versions.
"""

import importlib.util
from pathlib import Path

from setuptools import Extension, setup

_PLACE = Path(__file__).parent / "gpubond" / "exact" / "c_sources.py"
_SPEC = importlib.util.spec_from_file_location("c_sources", _PLACE)
c_sources = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(c_sources)

setup(
    ext_modules=[
        Extension(
            "gpubond.exact._native",
            ["gpubond/exact/native/exact.c"],
            depends=[f"gpubond/exact/native/{path.name}" for path in sorted(c_sources.DIRECTORY.glob("*.h"))],
            define_macros=[("EXACT_FINGERPRINT", f'"{c_sources.fingerprint()}"')],
            # Ours come last, behind those of the environment.
            extra_compile_args=list(c_sources.FLAGS),
            libraries=list(c_sources.LIBRARIES),
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
