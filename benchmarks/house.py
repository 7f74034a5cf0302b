"""The size and shape of the code: files, functions, parameters, documentation.

    python benchmarks/house.py [CHECKOUT ...]

Prints one column a checkout (this one by default), to compare before and after. Counts
``cervjax/`` only; files of at most 20 lines are left out of the lengths.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SHORT = 20
SWITCH = "# fmt: " + "skip"


class Function(NamedTuple):
    """A function or method, nested ones too.

    `lines` are those from ``def`` to the end, `code_lines` those without the docstring;
    `parameters` do not count self and cls.
    """

    name: str
    lines: int
    code_lines: int
    parameters: int
    documented: bool


def functions(tree: ast.AST) -> Iterator[tuple[ast.AST, Function]]:
    """All functions of a module, beside the node of each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            a = node.args
            names = [p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
            number = len(names) + bool(a.vararg) + bool(a.kwarg)
            number -= names[:1] in (["self"], ["cls"])
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            documented = ast.get_docstring(node) is not None
            first = node.body[0]
            text = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
            yield (
                node,
                Function(node.name, length, length - text, number, documented),
            )


def quantile(values: list[int], share: float) -> int:
    """The value that a share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def figures(checkout: Path) -> dict[str, str]:
    """One column of the table."""
    package = checkout / "cervjax"
    texts = {p: p.read_text("utf-8") for p in sorted(package.rglob("*.py"))}
    lengths = [len(t.splitlines()) for t in texts.values()]
    lengths = [n for n in lengths if n > SHORT]
    found = [f for t in texts.values() for _, f in functions(ast.parse(t))]
    lines, parameters = [f.lines for f in found], [f.parameters for f in found]
    public = [f for f in found if not f.name.startswith("_")]

    def documented(some: list[Function]) -> str:
        return f"{100 * sum(f.documented for f in some) / len(some):.0f} %"

    return {
        "files": str(len(texts)),
        "lines": str(sum(len(t.splitlines()) for t in texts.values())),
        "modules flat in the package": str(len(list(package.glob("*.py")))),
        "file length, median / max": f"{quantile(lengths, 0.5)} / {max(lengths)}",
        "files above 300 lines": str(sum(n > 300 for n in lengths)),
        "functions": str(len(found)),
        "function length, median / 90 % / max": (
            f"{quantile(lines, 0.5)} / {quantile(lines, 0.9)} / {max(lines)}"
        ),
        "functions above 60 lines, docstring not counted": str(
            sum(f.code_lines > 60 for f in found)
        ),
        "parameters, median / 99 % / max": (
            f"{quantile(parameters, 0.5)} / {quantile(parameters, 0.99)} / "
            f"{max(parameters)}"
        ),
        "functions above 8 parameters": str(sum(n > 8 for n in parameters)),
        "documented, all functions": documented(found),
        "documented, public functions": documented(public),
        "formatter switched off": str(sum(t.count(SWITCH) for t in texts.values())),
    }


def main() -> None:
    checkouts = [Path(a) for a in sys.argv[1:]] or [Path(__file__).parents[1]]
    columns = [figures(checkout) for checkout in checkouts]
    names = [checkout.resolve().name for checkout in checkouts]
    print(f"| | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
    for row in columns[0]:
        print(f"| {row} | {' | '.join(column[row] for column in columns)} |")


if __name__ == "__main__":
    main()
