# SPDX-License-Identifier: Apache-2.0
"""Every command's help, and one failing use of each, as a newcomer would try them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from gpubond.cli.command import summary
from gpubond.cli.failures import example_of
from gpubond.cli.main import main
from gpubond.provider.devices import CPU_SIM, device_class

from .doctor_visit import WRONG
from .tour import ROOT, USES, Seen, World, commands, open_world, page, units_missing

COMMANDS = commands()
LEAVES = [path for path, command in COMMANDS.items() if not isinstance(command, click.Group)]
# What a program reads: all commands, but for none so far. Path -> reason.
WITHOUT_JSON: dict[str, str] = {}
PAGE = ROOT / "docs" / "commands.md"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, anvil_binary: Path) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("tour"), anvil_binary) as world:
        yield world


@pytest.fixture(scope="module")
def told() -> dict[str, Seen]:
    """What the failing uses showed, for the page."""
    return {}


def test_every_command_has_a_failing_use_and_each_use_a_command() -> None:
    assert set(USES) == set(COMMANDS)
    assert len(LEAVES) > 30


@pytest.mark.parametrize("path", COMMANDS)
def test_help_says_what_a_newcomer_needs(path: str, world: World) -> None:
    command = COMMANDS[path]
    seen = world.run_here("newcomer", *path.split()[1:], "--help")
    assert (seen.code, seen.stderr) == (0, "")
    lines = seen.stdout.splitlines()
    assert lines[0].startswith(f"Usage: {path}")
    assert summary(command).rstrip(".").split()[0] in lines[2]
    # Nothing runs over the edge but an example, which is to be copied whole.
    assert not [line for line in lines if len(line) > (120 if "Example:" in line else 80)]
    wide = world.run_here("newcomer", *path.split()[1:], "-h", COLUMNS="120").stdout
    assert max(map(len, wide.splitlines())) <= 120
    unexplained = [item.name for item in command.params if isinstance(item, click.Option) and not item.help]
    assert not unexplained
    assert not units_missing(command)
    assert ("--json" in seen.stdout) == (path in LEAVES and path not in WITHOUT_JSON)


@pytest.mark.parametrize("path", COMMANDS)
def test_the_example_in_the_help_can_be_typed(path: str) -> None:
    example = example_of(COMMANDS[path])
    assert example is not None
    words = shlex.split(re.sub(r"\$\(.*?\)", "x", example.partition(" > ")[0]))
    while "=" in words[0]:
        words.pop(0)
    assert words[0] == "gpubond"
    command: click.Command = main
    context = click.Context(main, info_name="gpubond")
    rest = words[1:]
    while isinstance(command, click.Group):
        inner = command.get_command(context, rest[0])
        assert inner is not None, example
        command = inner
        if isinstance(command, click.Group):
            context, rest = click.Context(command, parent=context, info_name=rest[0]), rest[1:]
    # Raises if an option or a value is not one that the command takes.
    with command.make_context(rest[0], rest[1:], parent=context) as parsed:
        assert parsed.command_path.startswith(path)


@pytest.mark.parametrize("path", COMMANDS)
def test_a_failing_use_is_explained_and_moves_no_money(path: str, world: World, told: dict[str, Seen]) -> None:
    before = world.money()
    text = world.try_use(USES[path])
    told[path] = text
    assert text.code not in (0, None)
    assert "Traceback" not in text.stdout + text.stderr
    assert not re.search(r"unforeseen|<class|object at 0x|NoneType", text.stdout + text.stderr)
    as_json = world.try_use(USES[path], *(["--json"] if path in LEAVES else []), here=True)
    assert as_json.code == text.code
    assert "Traceback" not in as_json.stderr
    if path in LEAVES:
        document: Any = json.loads(as_json.stdout)
        if path != "gpubond provider doctor":
            error = document["error"]
            assert set(error) == {"code", "message", "field", "value", "remedy"}
            assert error["message"] and error["field"] and error["remedy"]
            # A person is told the same.
            for words in (error["message"].splitlines()[0], error["remedy"]):
                assert world.shown(words) in world.shown(text.stderr)
    if path != "gpubond provider doctor":
        assert re.search(r"^error: .+\n(.*\n)*?  field: .+\n  remedy: .+", text.stderr, re.MULTILINE)
    assert world.money() == before


def test_four_things_wrong_with_a_machine_are_found_in_one_visit(world: World) -> None:
    visit = world.visit("--json")
    document = json.loads(visit.seen.stdout)
    assert (visit.seen.code, document["ok"]) == (1, False)
    failed = {item["check"]: item for item in document["checks"] if item["outcome"] == "failed"}
    assert set(failed) == WRONG, document
    assert visit.operator in failed["gas-operator"]["remedy"]
    assert str(visit.port) in failed["port"]["remedy"]
    assert "bubblewrap" in failed["sandbox"]["remedy"]
    assert "provider.max_disk_mib" in failed["disk"]["remedy"]
    text = world.visit().seen
    assert text.code == 1
    for item in failed.values():
        # Amounts of gas follow the base fee, which may have changed between the visits.
        assert world.shown(item["remedy"]) in world.shown(text.stdout)
    # And all of it was mended: the same machine is well again.
    assert world.run("sick", "provider", "doctor").code == 0


def test_the_page_shows_what_is_said_today(world: World, told: dict[str, Seen]) -> None:
    """Last: it takes what the uses above showed."""
    if device_class() != CPU_SIM:
        pytest.skip("the page shows a machine without a GPU")
    missing = {path: world.try_use(USES[path]) for path in COMMANDS if path not in told}
    fresh = page(world, told | missing)
    assert fresh == PAGE.read_text(), "make tour"
