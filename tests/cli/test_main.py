"""What all commands have in common."""

import argparse
import json
import logging
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cervjax import __version__
from cervjax.cli import demo, infer
from cervjax.cli.main import COMMANDS, main, make_parser
from cervjax.model.weights import SHIPPED, load_weights

ROOT = Path(__file__).resolve().parents[2]


def parsers() -> dict[str, argparse.ArgumentParser]:
    """By name; "" is the parser of all."""
    top = make_parser()
    choices = next(a.choices for a in top._actions if isinstance(a.choices, dict))
    return {"": top, **choices}


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_every_flag_has_help_and_every_help_has_examples(name):
    parser = parsers()[name]
    bare = [
        action.option_strings or action.dest
        for action in parser._actions
        if not (action.help or isinstance(action, argparse._SubParsersAction))
    ]
    assert not bare
    assert f"cervjax {name}".strip() in (parser.epilog or "")
    assert "examples:" in parser.format_help()


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_understood(name, monkeypatch):
    for line in COMMANDS[name].EXAMPLES.splitlines():
        words = line.split("#")[0].split(">")[0].split()
        assert words[:2] == ["cervjax", name]
        args, rest = make_parser().parse_known_args(words[1:])
        assert not rest or args.takes_rest


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["infer", "--mode", "nonsense"],
        ["phantom", "-o", "x", "--subjects", "0"],
        ["evaluate", "only-one"],
        ["nonsense"],
        ["infer", "-q", "-v"],
        ["infer", "--unknown"],
    ],
)
def test_wrong_use_is_one_line_and_exit_2(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    out, err = capsys.readouterr()
    assert caught.value.code == 2
    assert out == "" and err.startswith("cervjax: error: ") and err.count("\n") == 1


def test_errors_are_one_line_unless_debug(tmp_path, capsys):
    absent = str(tmp_path / "absent")
    assert main(["infer", absent, "--dry-run"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("cervjax: error: ") and err.count("\n") == 1
    with pytest.raises((ValueError, OSError)):
        main(["infer", absent, "--dry-run", "--debug"])


@pytest.mark.parametrize("command", ["infer", "landmarks"])
def test_scans_are_given_once(command, tmp_path, capsys):
    other = ["-o", str(tmp_path / "out"), "-i", str(tmp_path)]
    assert main([command, str(tmp_path), *other]) == 2
    assert "two folders of scans" in capsys.readouterr().err


def test_input_flag_is_the_positional(tmp_path, capsys):
    outputs = set()
    for argv in ([str(tmp_path)], ["-i", str(tmp_path)], ["--input", str(tmp_path)]):
        assert main(["infer", *argv, "--dry-run"]) == 1
        outputs.add(capsys.readouterr().out)
    assert len(outputs) == 1


def test_quiet_prints_nothing(capsys):
    assert main(["info", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_info_names_weights_and_cache(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    assert main(["info", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    weights = load_weights(SHIPPED)
    assert found["weights"]["sha256"] == weights.sha256
    assert found["weights"]["name"] == weights.card.name
    assert found["cache"] == str(tmp_path)
    assert found["devices"][0]["platform"] == "cpu"
    assert found["memory_gb"]["total"] > found["memory_gb"]["available"] > 0
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert weights.sha256 in text and str(tmp_path) in text


def test_completion_knows_the_commands(capsys):
    with pytest.raises(SystemExit):
        main(["--print-completion", "bash"])
    script = capsys.readouterr().out
    assert all(name in script for name in COMMANDS) and "--dry-run" in script


def test_interrupted_is_130(monkeypatch, capsys):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(infer, "run", interrupted)
    assert main(["infer", "x"]) == 130
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "extra"), [("skimage.measure", "figures"), ("grain", "train")]
)
def test_missing_extra_is_named(module, extra, monkeypatch, capsys):
    def missing(args):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(demo, "run", missing)
    assert main(["demo"]) == 2
    err = capsys.readouterr().err
    assert f'pip install "cervjax[{extra}]"' in err and err.count("\n") == 1


def test_missing_module_of_no_extra_is_an_internal_error(monkeypatch):
    def missing(args):
        raise ModuleNotFoundError("No module named 'cervjax.x'", name="cervjax.x")

    monkeypatch.setattr(demo, "run", missing)
    with pytest.raises(ModuleNotFoundError):
        main(["demo"])


BLOCKED = """
import sys
import time
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a process of its own, with the checkout on the path."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True)


def test_inference_needs_no_extra():
    names = {"grain", "orbax", "optax", "ml_collections", "skimage", "plotly"}
    names |= {"tensorboardX", "pandas", "tqdm"}
    code = BLOCKED.format(names=names) + "import cervjax.inference.pipeline\n"
    code += "from cervjax.cli.main import main\nmain(['--help'])"
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert "infer" in done.stdout


def test_help_imports_no_heavy_library():
    code = "import sys\nfrom cervjax.cli.main import main\n"
    code += "try:\n    main(['infer', '--help'])\nexcept SystemExit:\n    pass\n"
    code += "print({'jax', 'scipy', 'matplotlib', 'skimage'} & set(sys.modules))"
    assert python(code).stdout.endswith("set()\n")


def test_nothing_is_on_stderr_at_start():
    code = "import sys\nfrom cervjax.cli.main import main\nsys.exit(main(['info']))"
    done = python(code)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("flags", [[], ["--verbose"]])
def test_libraries_warn_only_if_verbose(flags, monkeypatch, caplog):
    def noisy(args):
        for name in ("jax._src.xla_bridge", "absl", "orbax"):
            logging.getLogger(name).warning("something of no use")
        return 0

    monkeypatch.setattr(demo, "run", noisy)
    assert main(["demo", *flags]) == 0
    assert len(caplog.records) == (3 if flags else 0)
    logging.getLogger("jax").warning("after the command")
    assert caplog.messages[-1] == "after the command"


def test_version_names_jax_and_the_device():
    code = "from cervjax.cli.main import main\nmain(['--version'])"
    done = python(code)
    assert done.stderr == ""
    assert done.stdout.startswith(f"cervjax {__version__}, jax ")
    assert "cpu" in done.stdout


@pytest.mark.parametrize("quiet", [False, True])
def test_a_bar_on_a_terminal_leaves_stdout_alone(quiet):
    """Stdout is a pipe, stderr a terminal, as in ``cervjax infer scans/ > log``."""
    code = "from cervjax.cli.flags import progress_bar\n"
    code += f"with progress_bar('scans', 2, quiet={quiet}) as (log, on_progress):\n"
    code += "    log('one line')\n    on_progress('a')"
    ours, theirs = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=theirs)
    os.write(theirs, b"end")  # what a terminal was given may come piece by piece
    shown = b""
    while not shown.endswith(b"end"):
        shown += os.read(ours, 10_000)
    os.close(ours)
    os.close(theirs)
    assert done.stdout == b"one line\n"
    assert (b"scans" in shown) is not quiet


def test_a_command_may_take_flags_it_does_not_know(monkeypatch):
    seen = []
    monkeypatch.setattr(demo, "run", lambda args: seen.append(args.rest) or 0)
    monkeypatch.setattr(demo, "TAKES_REST", True, raising=False)
    assert main(["demo", "--config.train.num_steps=3"]) == 0
    assert seen == [["--config.train.num_steps=3"]]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_signals_end_as_an_interrupt_does(monkeypatch, capsys, name):
    """So that tables of finished scans are written; the handlers are put back."""
    number = getattr(signal, name, None)
    if number is None:
        pytest.skip(f"no {name} here")
    written = []

    def work(args):
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            written.append("tables")

    monkeypatch.setattr(demo, "run", work)
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)  # or ignored
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    assert main(["demo"]) == (130 if name == "SIGINT" else 128 + number)
    assert written == ["tables"]
    assert "finished scans are kept" in capsys.readouterr().err
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == before
    signal.signal(signal.SIGINT, outside)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_name_can_be_printed(tmp_path, encoding):
    """On a console that cannot show it, and a name that is no text."""
    for role in ("IN", "OPP"):
        for name in ("größe_", "颈部_", os.fsdecode(b"z\xff_")):
            try:
                (tmp_path / f"{name}{role}.nii").touch()
            except OSError:
                pytest.skip("the file system takes text only")
    code = "import sys; from cervjax.cli.main import main; sys.exit(main(sys.argv[1:]))"
    run = subprocess.run(
        [sys.executable, "-c", code, "infer", str(tmp_path), "--dry-run"],
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert b"3 scan(s), 0 problem(s)" in run.stdout


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_shards_are_all_scans_once(tmp_path, capsys, parts):
    for name in "abc":
        for role in ("IN", "OPP"):
            (tmp_path / f"{name}_{role}.nii").touch()
    seen = []
    for part in range(1, parts + 1):
        run = ["infer", str(tmp_path), "--dry-run", "--shard", f"{part}/{parts}"]
        main([*run, "--csv", str(tmp_path / f"{part}.csv")])
        lines = (tmp_path / f"{part}.csv").read_text().splitlines()[1:]
        seen += [line.split(",")[0] for line in lines]
    assert sorted(seen) == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/0", "a/b", "-1/3", "1/3/5"])
def test_a_shard_that_is_none_is_refused(tmp_path, capsys, text):
    with pytest.raises(SystemExit):
        main(["infer", str(tmp_path), f"--shard={text}"])
    assert "PART/PARTS" in capsys.readouterr().err
