r"""The command `diffsde`: its commands, and its exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from diffsde import __version__
from diffsde.cli import atlas, judging, listing, sampling, training
from diffsde.cli.command import Command
from diffsde.cli.report import in_front
from diffsde.errors import DiffSDEError, InputError
from diffsde.system.interrupts import interrupted_by_scheduler

__all__ = ["app", "main"]

EXAMPLE = "Example: diffsde sample --method sde_dpmpp_2m --clock karras --steps 20 --n 64 --animate"
EXIT_CODES = (
    "Exit codes: 0 success; 1 the work failed (a file, a solve, a training run); 2 the command was "
    "wrong (an unknown name, an option that does not fit); 130 interrupted by Ctrl-C or by SIGTERM."
)
COMMANDS: dict[str, Callable[..., None]] = {
    "gallery": sampling.gallery,
    "sample": sampling.sample,
    "explore": sampling.explore,
    "evaluate": judging.evaluate,
    "likelihood": judging.likelihood,
    "work-precision": judging.work_precision,
    "atlas": atlas.atlas,
    "solvers": listing.solvers,
    "train": training.train,
}

app = typer.Typer(
    help="Diffusion models as differential equations: train a score, solve with any solver, "
    "look at the paths.",
    epilog=f"{EXAMPLE}\n\n{EXIT_CODES}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _function in COMMANDS.items():
    app.command(_name, cls=Command)(_function)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"diffsde {__version__}")


def main() -> None:
    """Run the command `diffsde`."""
    try:
        # Typer catches Ctrl-C itself and returns its exit code.
        with interrupted_by_scheduler():
            if app(standalone_mode=False) == 130:
                raise KeyboardInterrupt
    except DiffSDEError as error:
        _end(2 if isinstance(error, InputError) else 1, error)
    except (KeyboardInterrupt, typer.Abort):
        _end(130, "interrupted")
    except OSError as error:
        _end(1, error)
    except Exception as error:
        # An error of Typer's own parser knows its exit code and how to show itself.
        if not hasattr(error, "exit_code"):
            raise
        if hasattr(error, "show"):
            error.show()
        sys.exit(error.exit_code)


def _end(code: int, words: object) -> NoReturn:
    print(f"{in_front()}{words}", file=sys.stderr)
    sys.exit(code)
