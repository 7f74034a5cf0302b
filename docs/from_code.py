"""Pages and drawings of the site that are made from the code, whenever it is built.

MkDocs calls `on_files` (see mkdocs.yml); nothing is written among the sources.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

from mkdocs.config.defaults import MkDocsConfig  # noqa: E402
from mkdocs.structure.files import File, Files  # noqa: E402
from ways import BATCH, SCAN, drawing  # noqa: E402

from cervjax.cli.main import COMMANDS, make_parser  # noqa: E402
from cervjax.measurement.dictionary import COLUMNS  # noqa: E402


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds them to the files of the site."""
    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def pages() -> dict[str, str]:
    """The content of each page or drawing, by its name in the site."""
    return {
        "columns.md": columns_page(),
        "commands.md": commands_page(),
        "way_of_a_scan.svg": drawing(SCAN, "The way of a scan"),
        "way_of_a_batch.svg": drawing(BATCH, "The way of a batch"),
    }


def columns_page() -> str:
    """What each column of the tables means."""
    lines = [
        "# Columns of the tables",
        "",
        "Made from the code; `measurements.json` beside "
        "every table says the same. Empty cells are values that do not exist: an MFI "
        "of a muscle without voxels, say.",
        "",
        "| column | unit | what it is |",
        "|---|---|---|",
    ]
    for name, column in COLUMNS.items():
        words = [f"`{word}`: {text}" for word, text in (column.levels or {}).items()]
        if set(column.levels or {}) == {*(column.levels or {}).values()}:
            words = [f"`{word}`" for word in column.levels or {}]
        text = column.description + (f" ({'; '.join(words)})" if words else "")
        lines.append(f"| `{name}` | {column.units} | {text} |")
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """Every command with its flags."""
    lines = [
        "# Commands",
        "",
        "Made from the code; `cervjax COMMAND --help` "
        "says the same. Exit status: 0 all well, 1 a scan failed or has nothing that "
        "may be used, 2 nothing could be started, 130 interrupted.",
        "",
        "Every command also takes `-h`, `-q` (errors only), `-v` (libraries' messages "
        "too) and `--debug` (tracebacks).",
    ]
    for name, parser in commands():
        lines += ["", f"## cervjax {name}", "", COMMANDS[name].HELP.capitalize() + "."]
        lines += ["", "```", *COMMANDS[name].EXAMPLES.strip().splitlines(), "```", ""]
        lines += ["| argument | what it does |", "|---|---|", *_rows(parser)]
    return "\n".join(lines) + "\n"


def commands() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Each command's name and parser."""
    for action in make_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _rows(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if {"-h", "-q", "-v", "--debug"} & {*action.option_strings}:
            continue
        text = (action.help or "") % {**vars(action), "prog": parser.prog}
        yield f"| {_shape(action)} | {_cell(text)} |"


def _shape(action: argparse.Action) -> str:
    value = action.metavar or ("" if action.nargs == 0 else action.dest.upper())
    if action.choices:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    value = value if isinstance(value, str) else " ".join(value)
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    names = ", ".join(action.option_strings)
    return f"`{_cell(f'{names} {value}')}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
