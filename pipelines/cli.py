"""The commands' common door: names, common options, tidy errors, exit codes.

Commands are imported when they are called, so that a recommender process never imports an encoder
library.
"""

import ctypes
import errno
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import click
from click.exceptions import NoArgsIsHelpError

from extract.errors import UserError, unknown_name
from pipelines.roots import AnyPath, tell_store_error

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

# Name, the module that holds `command`, and the line that `mmrec --help` shows.
COMMANDS = {
    "prepare": ("pipelines.prepare", "A catalogue and a log become a data set."),
    "check": ("pipelines.checking", "Check a data set, and features, against the data contract."),
    "extract": ("pipelines.extraction", "Encode a catalogue's pictures and texts into shards."),
    "finetune": ("pipelines.finetuning", "Adapt an encoder to a catalogue."),
    "train": ("pipelines.training", "Train and evaluate one recommender."),
    "evaluate": ("pipelines.evaluating", "Evaluate a finished run again, without training."),
    "recommend": ("pipelines.recommending", "Recommend items to users from a finished run."),
    "runs": ("pipelines.listing", "List a data set's finished runs in one table."),
    "compare": ("pipelines.comparing", "Train a grid of runs and say which differences are real."),
    "report": ("pipelines.reporting", "Write a comparison as one HTML page."),
}
DONE, KNOWN_ERROR, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
# No space, no more of one's share of it, a file larger than one may write.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Of every command; a command below a group has them from the group.
CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def common_options(command: CommandT) -> CommandT:
    """The options that every command has: ``--root`` and ``--quiet``."""
    for option in (
        click.option("--quiet", is_flag=True, help="No progress, only results and errors."),
        click.option(
            "--root",
            type=AnyPath(root=True),
            default=Path(),
            envvar="MMREC_ROOT",
            help="The workspace, with data/ and runs/ under it: a folder, or s3://BUCKET/PREFIX.  "
            "[default: ., or MMREC_ROOT]",
        ),
    ):
        command = option(command)
    return command


class NearestGroup(click.Group):
    """A group that tells the nearest command where an unknown one is asked for.

    Attributes:
        kind: What its commands are called.
    """

    kind = "command"

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order in which they were added."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command and its arguments."""
        known = self.list_commands(ctx)
        if args[0] not in known:
            raise click.UsageError(str(unknown_name(self.kind, args[0], known)), ctx)
        return super().resolve_command(ctx, args)


class LazyGroup(NearestGroup):
    """A group that imports a command's module only when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order in which one uses them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup)
@click.version_option(package_name="mmrec")
def group() -> None:
    """Multimodal recommendation in two stages joined by files.

    \b
    mmrec prepare ...   a catalogue and a log become a data set
    mmrec extract ...   its pictures and texts become features
    mmrec finetune ...  an encoder is adapted to the catalogue
    mmrec train ...     features and the log become recommendations
    """


def load_command(name: str) -> click.Command:
    """The command of that name, from its module."""
    command: click.Command = import_module(COMMANDS[name][0]).command
    return command


def run(name: str | None = None, arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        name: A key of `COMMANDS`; None runs the group ``mmrec``.
        arguments: The words after the command; None takes the process's own.
    """
    program = f"mmrec-{name}" if name else "mmrec"
    return run_tidily(lambda: load_command(name) if name else group, program, arguments)


def run_tidily(
    command: Callable[[], click.Command], program: str, arguments: Sequence[str] | None = None
) -> int:
    """Run a click command, tell errors in one line, and return the exit code.

    Args:
        command: Gives the command; an error of it is told, too.
        program: What it is called.
        arguments: Its words; None takes the process's own.

    Returns:
        What the command returns, or that it is done; or the code of its error.
    """
    keep_freed_memory()
    try:
        code: int | None = command().main(
            args=None if arguments is None else list(arguments),
            prog_name=program,
            standalone_mode=False,
            **CONTEXT,
        )
    except (click.Abort, KeyboardInterrupt) as error:
        return _fail(_tell_interrupt(error), INTERRUPTED)
    except NoArgsIsHelpError as error:
        click.echo(error.format_message())
    except click.UsageError as error:
        asked = error.ctx.command_path if error.ctx else program
        return _fail(f"{error.format_message()}; see {asked} --help", WRONG_USAGE)
    except UserError as error:
        return _fail(str(error), KNOWN_ERROR)
    except OSError as error:
        return _fail(tell_store_error(error) or _tell_os_error(error), KNOWN_ERROR)
    except Exception as error:
        told = tell_store_error(error)
        if told is None:
            raise
        return _fail(told, KNOWN_ERROR)
    else:
        return DONE if code is None else code
    return DONE


def keep_freed_memory() -> None:
    """Make glibc keep freed blocks for the next allocation instead of unmapping them.

    By default every large activation is handed back to the kernel and faulted in again; on two
    cores that makes a sparse product of recommender size five times slower. Elsewhere than on
    glibc this does nothing.
    """
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX of malloc.h
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 2**31 - 1)


def _tell_interrupt(error: BaseException) -> str:
    """That it was interrupted, and what the work says of how far it came."""
    # click turns the interrupt into an error of its own.
    came_so_far = str(error) or str(error.__cause__ or "")
    return f"interrupted; {came_so_far}" if came_so_far else "interrupted"


def _tell_os_error(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    if error.errno in FULL:
        return (
            f"there is no room to write ({os.strerror(error.errno).lower()}){where}; nothing that "
            "was finished is lost: make room and run the same command again"
        )
    return f"{error.strerror or error}{where}; check that the path exists and may be written"


def _fail(message: str, code: int) -> int:
    click.echo(f"error: {' '.join(message.split())}", err=True)
    return code


main, prepare, check, extract, finetune, train, evaluate, recommend, runs, compare, report = (
    partial(run, name) for name in (None, *COMMANDS)
)

if __name__ == "__main__":
    sys.exit(main())
