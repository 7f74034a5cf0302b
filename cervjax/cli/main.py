"""The ``cervjax`` command: its subcommands, and what they end with.

Exit status: 0 all well, 1 a scan failed, 2 nothing could be started, 130 interrupted.
"""

import argparse
import contextlib
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import shtab

from cervjax.about import NOTICE, __version__
from cervjax.cli import (
    cohort,
    convert,
    debias,
    demo,
    dicom,
    dicom_seg,
    evaluate,
    export,
    figures,
    infer,
    info,
    intervals,
    landmarks,
    measure,
    nnunet,
    phantom,
    protocol,
    reference,
    report,
    tables,
    train,
    translate,
)
from cervjax.cli.flags import INTERRUPTED, NOT_STARTED, extra_with

COMMANDS = {
    "infer": infer,
    "measure": measure,
    "tables": tables,
    "report": report,
    "translate": translate,
    "evaluate": evaluate,
    "cohort": cohort,
    "reference": reference,
    "figures": figures,
    "dicom": dicom,
    "dicom-seg": dicom_seg,
    "nnunet": nnunet,
    "phantom": phantom,
    "protocol": protocol,
    "demo": demo,
    "train": train,
    "convert": convert,
    "export": export,
    "landmarks": landmarks,
    "debias": debias,
    "intervals": intervals,
    "info": info,
}
"""Each has HELP, EXAMPLES, add_arguments(parser) and run(args) -> exit status.

With TAKES_REST = True it gets flags that the parser does not know in `args.rest`.
"""

EXAMPLES = """\
  cervjax demo
  cervjax infer scans/ -o results/
  cervjax infer --help
  cervjax --print-completion bash > ~/.local/share/bash-completion/completions/cervjax
"""


def start(argv: Sequence[str] | None = None) -> int:
    """`main`, in a process that gets its memory in large pages where Linux has them.

    The network writes gigabytes of short-lived arrays, and fetching them 4 KB at a time
    takes long. glibc reads the setting only when a process begins.
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    return main(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status."""
    _print_any_name()
    parser = make_parser()
    args, args.rest = parser.parse_known_args(argv)
    if args.rest and not args.takes_rest:
        parser.error(f"not understood: {' '.join(args.rest)}")
    try:
        with _messages(quiet=args.quiet, verbose=args.verbose), _stopped_by_signals():
            return args.run(args)
    except (ValueError, OSError) as error:
        if args.debug:
            raise
        print(f"cervjax: error: {error}", file=sys.stderr)
        return NOT_STARTED
    except ModuleNotFoundError as error:
        extra = extra_with(error.name)
        if args.debug or extra is None:
            raise
        print(
            f"cervjax: error: this needs {error.name}, which is not installed: "
            f'pip install "cervjax[{extra}]"',
            file=sys.stderr,
        )
        return NOT_STARTED
    except KeyboardInterrupt as interrupt:
        print("cervjax: interrupted; finished scans are kept", file=sys.stderr)
        return INTERRUPTED if not interrupt.args else 128 + interrupt.args[0]


def _print_any_name() -> None:
    """Files may have names that a console cannot show, or that are no text at all."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """What ends a batch job, or a lost terminal, is as a keyboard's interrupt."""

    def stop(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            if number := getattr(signal, name, None):
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        "cervjax",
        description="Neck muscle fat infiltration and volume from Dixon MRI. " + NOTICE,
        epilog="examples:\n" + EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action=_Version, help="print versions and the device, and exit"
    )
    shtab.add_argument_to(
        parser, "--print-completion", help="print a script that completes commands"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        one = commands.add_parser(
            name,
            help=command.HELP,
            description=command.HELP[0].upper() + command.HELP[1:] + ".",
            epilog="examples:\n" + _indented(command.EXAMPLES),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(one)
        _add_common(one)
        rest = getattr(command, "TAKES_REST", False)
        one.set_defaults(run=command.run, takes_rest=rest)
    return parser


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


def _add_common(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("-q", "--quiet", action="store_true", help="print errors only")
    group.add_argument(
        "-v", "--verbose", action="store_true", help="print libraries' messages too"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    for action in parser._actions:  # for the completion of file names
        if action.type is Path:
            setattr(action, "complete", shtab.FILE)  # noqa: B010


@contextlib.contextmanager
def _messages(*, quiet: bool, verbose: bool) -> Iterator[None]:
    """Hides what libraries log unless it is wanted, and stdout if quiet.

    The environment variable is read by the C++ of JAX and TensorStore on import.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "2")
    before = logging.root.manager.disable
    if not verbose:
        logging.disable(logging.WARNING)
    with contextlib.ExitStack() as stack:
        if quiet:
            nothing = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nothing))
        stack.callback(logging.disable, before)
        yield


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the flags."""

    def error(self, message: str) -> NoReturn:
        self.exit(NOT_STARTED, f"cervjax: error: {message}; see '{self.prog} --help'\n")


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser, namespace, values, option_string=None):
        with _messages(quiet=False, verbose=False):
            import jax

            kinds = sorted({device.device_kind for device in jax.devices()})
        print(f"cervjax {__version__}, jax {jax.__version__}, {', '.join(kinds)}")
        parser.exit()
