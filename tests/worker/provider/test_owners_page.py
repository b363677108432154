# SPDX-License-Identifier: Apache-2.0
"""docs/running-a-provider.md: commands, options, settings and files in it exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from gpubond.cli.main import main
from gpubond.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "running-a-provider.md").read_text()
BLOCKS = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).replace("\\\n", " ")
COMMANDS = sorted(
    {line.split("#")[0].strip() for line in BLOCKS.splitlines() if line.startswith("gpubond ")}
    | set(re.findall(r"`(gpubond provider [a-z]+[^`]*)`", PAGE))
)


def test_all_commands_of_a_provider_are_on_the_page() -> None:
    provider = main.get_command(click.Context(main), "provider")
    assert isinstance(provider, click.Group)
    named = {line.split()[2] for line in COMMANDS}
    assert named == set(provider.commands)


def test_the_help_of_each_command_ends_with_an_example_of_it() -> None:
    provider = main.get_command(click.Context(main), "provider")
    assert isinstance(provider, click.Group)
    for name, command in provider.commands.items():
        assert f"gpubond provider {name}" in (command.help or "").split("Example:")[-1], name
        assert "--json" in {option for parameter in command.params for option in parameter.opts}, name


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_page_exists_with_its_options(line: str) -> None:
    found: click.Command = main
    words = shlex.split(line)[1:]
    while isinstance(found, click.Group):
        inner = found.get_command(click.Context(found), words.pop(0))
        assert inner is not None, line
        found = inner
    options = {name for parameter in found.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_the_settings_of_the_page_exist_with_their_defaults() -> None:
    rows = re.findall(r"^\| (`(?:provider|offer)\.[^|]*) \| ([^|]*) \|", PAGE, re.M)
    assert len(rows) > 10
    for names, default in rows:
        shown = default.split(", ") if default.count(",") and "[" not in default else [default]
        for name, value in zip(re.findall(r"`(\w+)\.(\w+)`", names), shown, strict=True):
            section = Settings.model_fields[name[0]].annotation.__args__[0]  # type: ignore[union-attr]
            field = section.model_fields[name[1]]
            if re.fullmatch(r"\d+", value):
                assert field.default == int(value), name
            elif value.startswith("`["):
                assert list(field.default) == re.findall(r'"(\w+)"', value), name
            else:
                assert field.default is None, name


def test_the_files_that_the_page_links_to_are_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PAGE) if "://" not in link]
    assert links and not [link for link in links if not (ROOT / "docs" / link.partition("#")[0]).is_file()]
