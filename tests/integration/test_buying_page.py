# SPDX-License-Identifier: Apache-2.0
"""docs/buying.md: every shell and Python line of it works, in the order of the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpubond.devnet import Devnet, free_port

from .marketplace import Marketplace

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "buying.md"
BLOCK = re.compile(r"(<!-- not run[^>]*-->\n)?```(\w+)\n(.*?)```", re.DOTALL)


@pytest.fixture
def market(tmp_path: Path, anvil_binary: Path) -> Iterator[Marketplace]:
    devnet = Devnet(tmp_path / "chain", free_port(), anvil=anvil_binary)
    devnet.up()
    try:
        market = Marketplace(tmp_path, devnet, devnet.deploy(ROOT))
        try:
            market.start_worker(market.provider("provider", 1, 2))
            yield market
        finally:
            market.close()
    finally:
        devnet.down()


# Some twenty commands and four jobs, one after the other.
@pytest.mark.timeout(900)
def test_the_page_does_what_it_says(market: Marketplace, tmp_path: Path) -> None:
    blocks = BLOCK.findall(PAGE.read_text())
    assert {language for mark, language, _ in blocks if not mark} == {"sh", "python"}
    folder = tmp_path / "reader"
    folder.mkdir()
    # One shell for all, as for a reader; Python gets its own program in the order of the page.
    script = ["set -eux"]
    for number, (mark, language, text) in enumerate(blocks):
        if mark:
            continue
        program = f"page-{number}.py"
        if language == "python":
            (folder / program).write_text(text)
        script.append(f"python3 {program}" if language == "python" else text)
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "RPC_URL": market.devnet.url,
            "DEPLOYMENT": str(market.deployment),
            "GPUBOND_HOME": str(tmp_path / "reader-home"),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    for fetched in ("squares/outputs", "second", "third", "fourth"):
        assert (folder / fetched / "squares.npy").is_file(), done.stdout
    assert "you cancelled it" in done.stdout


def test_lines_that_are_not_run_are_marked() -> None:
    text = PAGE.read_text()
    unmarked = [language for mark, language, _ in BLOCK.findall(text) if not mark and language not in ("sh", "python")]
    assert unmarked == []
    assert len(BLOCK.findall(text)) == text.count("```") // 2
