"""The tree of imports, and the size of files and functions, as the design has them.

`benchmarks/house.py` prints the figures.
"""

import ast
import importlib
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
from house import functions  # noqa: E402

LAYERS = (
    ("about", "anatomy"),
    ("io",),
    ("preprocessing", "measurement"),
    ("figures", "phantom"),
    ("model",),
    ("data",),
    ("inference",),
    ("evaluation",),
    ("training",),
    ("cohort",),
    ("cli",),
)
"""Modules import from their own package and from those above it in this list."""

HOMES = {
    "dcm2niix": {"io"},
    "flax.linen": {"model"},
    "google_crc32c": {"model"},
    "grain": {"data", "training"},
    "highdicom": {"io"},
    "nibabel": {"io"},
    "optax": {"training"},
    "orbax": {"training"},
    "plotly": {"figures"},
    "pydicom": {"io"},
    "ray": {"inference"},
    "rich": {"cli"},
    "safetensors": {"model"},
    "tensorboardX": {"training"},
}
"""Libraries that enter in few places."""

FILE_LINES, FUNCTION_LINES, PARAMETERS, PACKAGES = 300, 60, 8, 12

# What is still to be done. Take a line away when its fault is gone; add none.
UPWARD: set[str] = set()
STRANGERS: set[str] = set()
LARGE: set[str] = set()


@cache
def modules() -> dict[str, tuple[Path, ast.Module]]:
    """Path and syntax tree of each module of the package, by dotted name."""
    found = {}
    for path in sorted((ROOT / "cervjax").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        found[name] = path, ast.parse(path.read_text("utf-8"))
    return found


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names imported anywhere in a module, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"a relative import in line {node.lineno}"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                known = whole in modules() or whole in HOMES
                yield whole if known else str(node.module)


def arrows() -> Iterator[tuple[str, str]]:
    """Importer and imported, both modules of the package.

    Not of ``cervjax`` itself: it passes on the functions of others, only when they are
    called for.
    """
    for name, (_, tree) in modules().items():
        if name != "cervjax":
            yield from ((name, t) for t in set(imported(tree)) & modules().keys())


def layer(module: str) -> int:
    package = module.split(".")[1]
    return next(i for i, packages in enumerate(LAYERS) if package in packages)


def test_packages_import_from_lower_layers_only():
    upward = {
        f"{a} -> {b}"
        for a, b in arrows()
        if a.split(".")[1] != b.split(".")[1] and layer(b) >= layer(a)
    }
    assert upward <= UPWARD, f"imports upwards: {sorted(upward - UPWARD)}"


def test_nothing_inside_imports_the_front_door():
    assert not [a for a, b in arrows() if b == "cervjax"]


def test_no_circle():
    graph = defaultdict(set)
    for a, b in arrows():
        if f"{a} -> {b}" not in UPWARD:
            graph[a].add(b)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(f"a circle of imports: {error.args[1]}") from None


def test_the_top_of_the_package():
    top = [p for p in (ROOT / "cervjax").iterdir() if p.name != "__pycache__"]
    packages = {p.name for p in top if p.is_dir() and any(p.glob("*.py"))}
    assert packages <= {name for names in LAYERS for name in names}
    assert len(packages) <= PACKAGES
    files = {p.name for p in top if p.is_file()}
    assert files <= {"__init__.py", "about.py", "anatomy.py", "py.typed"}


def test_the_front_door_loads_next_to_nothing_at_once():
    _, tree = modules()["cervjax"]
    loaded = {
        name
        for node in tree.body
        if not isinstance(node, ast.FunctionDef | ast.If)
        for name in imported(node)
        if name.startswith("cervjax")
    }
    assert loaded == {"cervjax.about"}


def test_libraries_enter_where_they_are_at_home():
    strangers = {
        f"{path.relative_to(ROOT).as_posix()}: {library}"
        for name, (path, tree) in modules().items()
        for wanted in imported(tree)
        for library, homes in HOMES.items()
        if f"{wanted}.".startswith(f"{library}.")
        and not {*name.split(".")[1:2]} & homes
    }
    assert strangers <= STRANGERS, sorted(strangers - STRANGERS)


def test_files_and_functions_are_small_or_say_why():
    """``# long: reason`` or ``# many: reason`` on the line of the def, or above it.

    The docstring does not count.
    """
    large = set()
    for path, tree in modules().values():
        lines = path.read_text("utf-8").splitlines()
        place = path.relative_to(ROOT).as_posix()
        if len(lines) > FILE_LINES:
            large.add(place)
        for node, function in functions(tree):
            first = min(n.lineno for n in (node, *node.decorator_list))
            said = lines[first - 2] + lines[node.lineno - 1]
            if function.code_lines > FUNCTION_LINES and "# long: " not in said:
                large.add(f"{place} {function.name}: lines")
            if function.parameters > PARAMETERS and "# many: " not in said:
                large.add(f"{place} {function.name}: parameters")
    assert large <= LARGE, f"split, or say why: {sorted(large - LARGE)}"


def test_the_formatter_is_never_switched_off():
    switch = "fmt: " + "skip"
    files = [*(ROOT / "cervjax").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    assert not [p for p in files if switch in p.read_text("utf-8")]


def test_benchmarks_import_what_is_there():
    """They are run by hand, so that a name that has moved would not be noticed."""
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith(
                "cervjax"
            ):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    found = hasattr(module, alias.name) or whole in modules()
                    assert found, f"{path.name}: {whole}"
