"""The ``cervjax`` command: its subcommands, and what they end with.

Exit status: 0 all well, 1 a scan failed, 2 nothing could be started, 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from cervjax import __version__
from cervjax.cli import (
    cohort,
    convert,
    debias,
    demo,
    evaluate,
    figures,
    infer,
    landmarks,
    phantom,
)
from cervjax.cli.flags import INTERRUPTED, NOT_STARTED

COMMANDS = {
    "infer": infer,
    "evaluate": evaluate,
    "cohort": cohort,
    "figures": figures,
    "phantom": phantom,
    "demo": demo,
    "convert": convert,
    "landmarks": landmarks,
    "debias": debias,
}
"""Each has HELP, EXAMPLES, add_arguments(parser) and run(args) -> exit status."""


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
    args = make_parser().parse_args(argv)
    try:
        return args.run(args)
    except (ValueError, OSError) as error:
        if args.debug:
            raise
        print(f"cervjax: error: {error}", file=sys.stderr)
        return NOT_STARTED
    except KeyboardInterrupt:
        print("cervjax: interrupted; finished scans are kept", file=sys.stderr)
        return INTERRUPTED


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        "cervjax",
        description="Neck muscle fat infiltration and volume from Dixon MRI. "
        "Research use only. Not for clinical use.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        one = commands.add_parser(
            name,
            help=command.HELP,
            description=command.HELP[0].upper() + command.HELP[1:] + ".",
            epilog="examples:\n" + command.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(one)
        one.add_argument("--debug", action="store_true", help="show tracebacks")
        one.set_defaults(run=command.run)
    return parser
