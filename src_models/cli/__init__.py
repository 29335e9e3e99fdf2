"""The command ``lsnet``: one file a command, no science inside. Only the command that is asked for is loaded."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from src_models.errors import BAD_INPUT, CANCELLED, OUT_OF_MEMORY, LsnetError, out_of_memory

_COMMANDS = {
    "evolve": "grow a contour from seeds until it rests at the border",
    "fit": "learn the weights of the equation from accepted masks",
    "train": "train a network on a folder of images and labels",
    "crossval": "train once per fold and judge every network on the patients it has not seen",
    "info": "say what a file holds: size, voxels, place in the patient, or how a result was made",
    "demo": "grow a contour over the liver of the CT that comes with this program",
    "predict": "apply a trained network to an image or a folder of images",
    "evaluate": "compare segmentations with references: Dice, distances, volumes, with counts and intervals",
    "kernels": "say what the kernels of a trained network are, beside what chance would give",
    "weights": "list, show, download, verify, import and export models",
    "replay": "make a result again from its record and say whether it is the same",
}
_DESCRIPTION = "Level sets on medical and scientific images."
_ENDING = "Each command explains itself: lsnet COMMAND --help. Research use only; not a medical device."

UNEXPECTED = 70


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after ``lsnet``; by default those of this process.

    Returns
    -------
    int
        0, or one of the exit codes of `src_models.errors`; 70 for an error that nobody foresaw.

    Raises
    ------
    SystemExit
        From the parser: 0 after ``--help`` and ``--version``, 2 where the command line cannot be read.
    """
    from src_models.cli.options import join_negative_values
    from src_models.processor import let_waiting_threads_sleep

    let_waiting_threads_sleep()
    words = join_negative_values(sys.argv[1:] if argv is None else argv)
    parser, command = _parser(words)
    arguments = parser.parse_args(words)
    if command is None:
        parser.print_help()
        return 0
    try:
        code = command.run(arguments)
        sys.stdout.flush()
    except LsnetError as error:
        return _fail(arguments, str(error), error.exit_code, error.code)
    except KeyboardInterrupt:
        return _fail(arguments, "Stopped; nothing was saved.", CANCELLED, "interrupted")
    except BrokenPipeError:
        # who reads the output has gone (``lsnet info FILE | head``); nothing to say, and nothing to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if out_of_memory(error):
            sentence = "There is not enough memory. Choose a smaller image or region, or close other programs."
            return _fail(arguments, sentence, OUT_OF_MEMORY, "memory")
        if arguments.debug:
            raise
        sentence = f"lsnet {arguments.command} stopped: {type(error).__name__}. Run it again with --debug to see where."
        return _fail(arguments, sentence, UNEXPECTED, "unexpected")
    return int(code)


class _Parser(argparse.ArgumentParser):
    """A parser that refuses in one sentence; the list of all flags is what --help is for."""

    def error(self, message: str) -> NoReturn:
        sentence = " ".join(message.split())
        self.exit(BAD_INPUT, f"{self.prog}: error: {sentence}. See {self.prog} --help.\n")


def _parser(words: Sequence[str]) -> tuple[argparse.ArgumentParser, ModuleType | None]:
    """The parser with the arguments of the chosen command alone, and that command's module."""
    parser = _Parser("lsnet", description=_DESCRIPTION, epilog=_ENDING, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"lsnet {_version()}" if "--version" in words else "")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    chosen = next((word for word in words if not word.startswith("-")), "")
    module = None
    for name, purpose in _COMMANDS.items():
        about = purpose[0].upper() + purpose[1:] + "."
        added = commands.add_parser(name, help=purpose, description=about, allow_abbrev=False)
        if name == chosen:
            module = importlib.import_module(f"src_models.cli.{name}")
            module.add_arguments(added)
            general = added.add_argument_group("general")
            general.add_argument("--json", action="store_true", help="Write JSON lines for programs to read.")
            general.add_argument("--debug", action="store_true", help="Show where an unexpected error came from.")
    return parser, module


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("napari-lsnet")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _fail(arguments: argparse.Namespace, sentence: str, exit_code: int, code: str) -> int:
    from src_models.cli.report import write_json

    line = " ".join(sentence.split())
    sys.stderr.write(f"lsnet: {line}\n")
    if arguments.json:
        write_json({"event": "error", "code": code, "message": line, "exit_code": exit_code})
    return exit_code
