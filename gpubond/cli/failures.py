# SPDX-License-Identifier: Apache-2.0
"""Whatever ends a command, in words and with an exit code: a line that does not parse, a full disk, Ctrl-C, a bug.

Commands themselves raise the errors of gpubond/errors.py; here is the rest, so that nobody is shown a stack of calls,
and who asked for `--json` gets the one JSON document in every case.
"""

from __future__ import annotations

import difflib
import errno
import inspect
import logging
import os
import re
import sqlite3
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from gpubond.errors import BadInput, BadSettings, GpuBondError, Interrupted

logger = logging.getLogger(__name__)

TRACE_VARIABLE = "GPUBOND_TRACEBACK"

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NOT_YOURS = (errno.EACCES, errno.EPERM, errno.EROFS)
# What another run of the same command must not double.
_LOOK_FIRST = (
    "what was sent before stands: look with `gpubond account show`, `gpubond job list` or `gpubond provider status` "
    "before you call it again"
)


def in_words(error: Exception, arguments: Sequence[str]) -> GpuBondError:  # noqa: PLR0911  # one for each kind
    """The error that a command ended with, with field, value and remedy.

    Args:
        error: as it left click.
        arguments: the command line, for the value of the option that is wrong.
    """
    if isinstance(error, GpuBondError):
        return error
    if isinstance(error, click.UsageError):
        return _usage(error, arguments)
    if isinstance(error, click.Abort):
        return _aborted(error)
    if isinstance(error, click.ClickException):
        return BadInput(error.format_message(), field="arguments", remedy="correct it and call again")
    if isinstance(error, OSError) and error.strerror is not None:
        return _system(error)
    if isinstance(error, sqlite3.DatabaseError):
        return BadSettings(
            f"the store in the home folder cannot be used: {error}",
            field="--home",
            remedy="make room on the disk, and look whether this user may write there: nothing is lost; " + _LOOK_FIRST,
        )
    return _bug(error)


def interrupted(remedy: str = _LOOK_FIRST) -> Interrupted:
    """The error for Ctrl-C."""
    return Interrupted("interrupted", remedy=remedy)


def example_of(command: click.Command) -> str | None:
    """The example in a command's help, without the word."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    found = [text for text in paragraphs if text.lstrip("\b\n").startswith("Example:")]
    return " ".join(found[0].lstrip("\b\n").removeprefix("Example:").split()) if found else None


def _usage(error: click.UsageError, arguments: Sequence[str]) -> BadInput:
    context = error.ctx
    path = "gpubond" if context is None else context.command_path
    remedy = f"`{path} --help` explains it"
    example = None if context is None else example_of(context.command)
    if example is not None:
        remedy += f"; for instance: {example}"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        name = _name(error.param)
        return BadInput(f"{name} is missing", field=name, remedy=remedy)
    if isinstance(error, click.BadParameter) and error.param is not None:
        name = _name(error.param)
        return BadInput(_plainly(error.message), field=name, value=_given(error, error.param, arguments), remedy=remedy)
    if isinstance(error, click.NoSuchOption) and error.option_name[1:2].isdigit():
        given = next((word for word in arguments if word.startswith(error.option_name)), error.option_name)
        return BadInput("a negative number is not possible here", field="arguments", value=given, remedy=remedy)
    if isinstance(error, click.NoSuchOption):
        if error.possibilities:
            remedy = f"perhaps you mean {' or '.join(sorted(error.possibilities))}; {remedy}"
        return BadInput("there is no such option", field=error.option_name, remedy=remedy)
    if context is not None and isinstance(context.command, click.Group):
        return _no_such_command(context, context.command, arguments)
    return BadInput(error.format_message().rstrip("."), field="arguments", remedy=remedy)


def _no_such_command(context: click.Context, group: click.Group, arguments: Sequence[str]) -> BadInput:
    known = group.list_commands(context)
    # The first word that is neither an option nor a group on the way.
    depth = len(context.command_path.split()) - 1
    words = [word for word in arguments if not word.startswith("-")]
    name = words[depth] if len(words) > depth else None
    near = difflib.get_close_matches(name or "", known, 1)
    hint = f"perhaps you mean `{context.command_path} {near[0]}`; " if near else ""
    return BadInput(
        "there is no such command", field="COMMAND", value=name, remedy=f"{hint}there are: {', '.join(known)}"
    )


def _name(parameter: click.Parameter) -> str:
    return parameter.opts[0] if isinstance(parameter, click.Option) else parameter.make_metavar().strip("[].")


def _plainly(message: str) -> str:
    return message.rstrip(".").replace("integer range", "whole number").replace("integer", "whole number")


def _given(error: click.BadParameter, parameter: click.Parameter, arguments: Sequence[str]) -> str | None:
    """What was given for a parameter; None if that cannot be told."""
    for number, word in enumerate(arguments):
        for option in parameter.opts:
            if word == option and number + 1 < len(arguments):
                return arguments[number + 1]
            if word.startswith(f"{option}="):
                return word.partition("=")[2]
    # From the environment, or an argument: click's own words quote it.
    quoted = re.search("'(.+)'", error.message)
    return None if quoted is None else quoted[1]


def _aborted(error: click.Abort) -> GpuBondError:
    # click hides what was behind it, and keeps it.
    if isinstance(error.__cause__ or error.__context__, EOFError):
        return BadInput(
            "the input ended before the question was answered", field="answer", remedy="answer it; nothing was sent"
        )
    return interrupted()


def _system(error: OSError) -> BadSettings:
    path = None if error.filename is None else str(error.filename)
    if error.errno in _NO_ROOM:
        remedy = "make room on that disk: nothing is lost; " + _LOOK_FIRST
    elif error.errno in _NOT_YOURS:
        remedy = "name a folder that this user may write, or mend its owner and mode (`ls -ld` shows them)"
    else:
        remedy = "correct that path, or name another one"
    what = "a file" if path is None else path
    return BadSettings(f"{what} cannot be used: {error.strerror}", field="file", value=path, remedy=remedy)


def _bug(error: Exception) -> GpuBondError:
    if os.environ.get(TRACE_VARIABLE):
        traceback.print_exception(error, file=sys.stderr)
    elif logging.getLogger().handlers:
        # Only a worker logs, and there the trace belongs.
        logger.error("unforeseen", exc_info=error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return GpuBondError(
        f"unforeseen: {type(error).__name__}{place}. This is a fault of gpubond, not yours",
        remedy=f"report it, with what is printed if {TRACE_VARIABLE}=1 is set; " + _LOOK_FIRST,
    )
