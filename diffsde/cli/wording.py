r"""Library messages in the words of the command line.

A library error speaks of arguments, `rtol = 0` or `batch_size`; whoever typed a command knows
options, `--rtol 0` and `--batch-size`. All messages pass through here once, on their way out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["in_options"]

# What a message says that only a program could do.
_PHRASES = {
    ". The path so far is in this error's trajectory": "",
    ": they are in this error's trajectory, and the path of the chunk that failed is in its "
    "cause's": "",
    "; for larger data give the problem data_scale=": "",
    "Raise megabytes, or pass": "With --n, draw",
    "skip frames with speed=, or write .png, .mp4 or .webm": "or give --format mp4",
    "give another path, or delete the file": "give another --out, or delete the file",
    "give another folder, or remove": "give another --out, or remove",
    "use a ReverseSDE for it": "see --kind",
    "use a ProbabilityFlow for it": "see --kind",
    "give a function from images": "give MODULE:FUNCTION, a function from images",
    'give data=, such as data=load_images("PATH")': "give --dataset, such as --dataset PATH",
    'load_pretrained("mnist")': "--model mnist",
}
# Arguments that have another name here.
_RENAMED = {"budgets": "budget", "methods": "method", "class_label": "label", "root": "data"}


def in_options(message: str, options: Mapping[str, str]) -> str:
    """The message, with options for arguments.

    Args:
        message: what the library says.
        options: the options of a command by their arguments' names, {"rtol": "--rtol"}.
    """
    for phrase, words in _PHRASES.items():
        message = message.replace(phrase, words)
    if "option" in options:
        message = re.sub(r"\boptions\['(\w+)'\]( = )?", _one_option, message)
    renamed = {old: options[new] for old, new in _RENAMED.items() if new in options}
    for name, option in {**renamed, **options}.items():
        message = _with_option(message, name, option)
    return message


def _one_option(found: re.Match[str]) -> str:
    """`options['name'] = 3` as it is typed, `--option name=3`."""
    return f"--option {found[1]}" + ("=" if found[2] else "")


def _with_option(message: str, name: str, option: str) -> str:
    """`name = 3`, `name='x'`, `name=` and `leave name out`; `a_name` wherever it stands alone."""
    word = rf"(?<![\w.'/-]){name}"
    message = re.sub(rf"{word} ?= ?'([\w.-]+)'", rf"{option} \1", message)
    message = re.sub(rf"{word}=True\b", option, message)
    message = re.sub(rf"{word} = (?=\S)", f"{option} ", message)
    message = re.sub(rf"{word}=(?=\S*[\w\"])", f"{option} ", message)
    message = re.sub(rf"{word}=", option, message)
    message = re.sub(rf"\bleave {name} out\b", f"leave {option} out", message)
    return re.sub(rf"{word}(?![\w./='-])", option, message) if "_" in name else message
