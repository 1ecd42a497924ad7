"""Command lines in the style of Caffe's tools: `-flag v`, `--flag v`, `-flag=v`, `--flag=v`, `-shuffle`, `-noshuffle`.

Built on argparse. Every command's `main` goes through `run`, which prints a CaffeError as one message and exits with 1.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from caffe.cli import startup
from caffe.errors import CaffeError

_TRUE = {"1", "true", "t", "yes", "y"}
_FALSE = {"0", "false", "f", "no", "n"}


#: those of caffe.engine.acceleration, which takes seconds to import: --help should not wait for it
PRECISIONS = ("fp32", "tf32", "bf16")
#: the names under which commands of the original and of its relatives take a label map, and weights: all take all
LABEL_MAP = ("label_map_file", "labelmap_file", "label_map", "labelmap", "label_map_path", "labelmap_path")
WEIGHTS = ("weights", "model_weights", "pretrained_model")


def boolean(text: str) -> bool:
    """A gflags boolean; argparse reports anything else with the flag's name."""
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise argparse.ArgumentTypeError(f"'{text}' is not true or false")


class _Version(argparse.Action):
    """Prints the versions and exits."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from caffe.cli.version import versions

        print(versions())
        raise SystemExit(0)


class _MaxPixels(argparse.Action):
    """Sets the limit in the environment, for this process and those that it starts."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        setattr(namespace, self.dest, values)
        os.environ["CAFFE_MAX_PIXELS"] = str(values)


def number(
    kind: type[int] | type[float], least: float, most: float = math.inf, *, over: bool = False
) -> Callable[[str], Any]:
    """A type for a flag: a number from `least` (or over it) to `most`; argparse reports anything else with the flag's name."""
    noun = "a whole number" if kind is int else "a number"
    bounds = (
        f"over {least:g}" if over else f"of at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
    )

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most or (over and value == least) or value == math.inf:
            raise argparse.ArgumentTypeError(f"'{text}' is not {noun} {bounds}")
        return value

    return parse


class FlagParser(argparse.ArgumentParser):
    """An ArgumentParser whose `flag` adds an option under one dash and two."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs["add_help"] = False  # -help is Caffe's spelling, so all three are added below
        super().__init__(*args, **kwargs)
        self.add_argument("-h", "-help", "--help", action="help", help="show this help and exit")
        self.add_argument("-version", "--version", action=_Version, nargs=0, help="show the versions and exit")
        self._booleans: set[str] = set()
        self._aliases: dict[str, str] = {}

    def flag(
        self, name: str, *, default: Any = None, help: str, type: Callable[[str], Any] = str,
        aliases: Sequence[str] = (), **kw: Any,
    ) -> None:  # fmt: skip
        """Adds `-name` and `--name`. A `boolean` flag may stand without a value or be negated: `-noname`.

        `aliases` are other names of a flag that takes a value, which the help does not show.
        """
        shown = (
            help
            if default in (None, "")
            else f"{help} (default: {str(default).lower() if type is boolean else 'a space' if default == ' ' else default})"
        )
        if type is boolean:
            self._booleans.update((f"-{name}", f"--{name}"))
            self.add_argument(
                f"-{name}", f"--{name}", nargs="?", const=True, type=boolean, default=default, help=shown,
                metavar="true|false", **kw,
            )  # fmt: skip
            self.add_argument(
                f"-no{name}", f"--no{name}", dest=name, action="store_false", default=argparse.SUPPRESS,
                help=argparse.SUPPRESS,
            )  # fmt: skip
        else:
            self.add_argument(f"-{name}", f"--{name}", type=type, default=default, help=shown, **kw)
            self.also(f"-{name}", aliases)

    def also(self, option: str, aliases: Sequence[str]) -> None:
        """Makes `aliases` other names of an option that takes a value."""
        self._aliases.update({alias: option for alias in aliases})

    def max_pixels(self) -> None:
        """Adds `-max_pixels`, which a command that decodes images takes."""
        self.flag(
            "max_pixels", type=number(int, 1), action=_MaxPixels, metavar="N",
            help="refuse images of more pixels than this (default: CAFFE_MAX_PIXELS, or 200 million)",
        )  # fmt: skip

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Keeps a boolean flag without a value from taking the positional argument after it as its value."""
        words = [self._own_name(word) for word in (sys.argv[1:] if args is None else args)]
        for index, word in enumerate(words):
            value = words[index + 1].lower() if index + 1 < len(words) else ""
            if word in self._booleans and value not in ("true", "false"):
                words[index] = f"{word}=true"
        return super().parse_known_args(words, namespace)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, but what is not understood gets a hint."""
        found, rest = self.parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}{self._hint(rest[0])}")
        return found

    def _hint(self, word: str) -> str:
        """What may have been meant by a word of the command line that is neither a flag nor asked for."""
        from difflib import get_close_matches

        flags = {flag.lstrip("-"): flag for flag in self._option_string_actions if not flag.startswith("--")}
        if word.startswith("-"):
            near = get_close_matches(word.lstrip("-").partition("=")[0].replace("-", "_"), flags, n=1)
            return f"; did you mean {flags[near[0]]}?" if near else ""
        if any(not action.option_strings for action in self._actions):
            return ""
        first = next((action.option_strings[0] for action in self._actions[2:] if action.nargs is None), None)
        return f"; arguments are flags with their values, such as {first} {word}" if first else ""

    def _own_name(self, word: str) -> str:
        """A word of the command line, with a flag's own name in place of an alias, or of one with - for _ or _ for -."""
        flag, equals, value = word.partition("=")
        if not flag.startswith("-") or flag in self._option_string_actions:
            return word
        dashes = flag[: len(flag) - len(flag.lstrip("-"))]
        name = flag.removeprefix(dashes).replace("-", "_")
        for option in (f"{dashes}{name}", f"{dashes}{name.replace('_', '-')}", self._aliases.get(name)):
            if option in self._option_string_actions:
                return f"{option}{equals}{value}"
        return word

    def error(self, message: str) -> NoReturn:
        """Usage errors point to --help instead of printing a page of usage."""
        self.exit(1, f"{self.prog}: {message}\nSee '{self.prog} --help'.\n")


def run(program: str, command: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Runs a command's body and returns its exit status: 1, with a message, for the user's errors; 130 for Ctrl-C."""
    startup.loaded()
    try:
        return command(sys.argv[1:] if argv is None else argv) or 0
    except CaffeError as error:
        _say(f"{program}: {error}")
        return 1
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _say(f"{program}: {error.strerror or error}{where}")
        return 1
    except KeyboardInterrupt:
        _say(f"{program}: interrupted")
        return startup.INTERRUPTED
    finally:
        startup.release_stderr()


def _say(message: str) -> None:
    """Prints a last message, if standard error is still there."""
    with suppress(OSError, ValueError):
        print(message, file=sys.stderr)
