"""``cervjax train``: what is wrong is one line, and a fault of the program is not."""

import subprocess
import sys
from pathlib import Path

import pytest

from cervjax.cli.main import main
from cervjax.training import loop, run
from cervjax.training.config import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def trained(monkeypatch):
    """What `train` was called with; it does nothing."""
    calls = []
    monkeypatch.setattr(loop, "train", lambda *args: calls.append(args) or 0)
    return calls


def test_name_workdir_and_values_arrive(trained, tmp_path):
    argv = ["train", "--config", "dixon_cpu", "--workdir", str(tmp_path / "a")]
    argv += ["--init-from", "w.safetensors", "--config.train.num_steps=7"]
    assert main(argv) == 0
    ((config, workdir, init_from),) = trained
    assert config.train.num_steps == 7 and config.data.window == (112, 96, 40)
    assert (workdir, init_from) == (tmp_path / "a", "w.safetensors")


def test_a_file_may_be_given(trained, tmp_path):
    argv = ["train", "--config", str(ROOT / "configs" / "dixon.py")]
    assert main([*argv, "--workdir", str(tmp_path)]) == 0
    assert trained[0][0].train.num_steps == 100_000


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--config", "dixxon", "--workdir", "W"], "no such config"),
        (["--config", "gone.py", "--workdir", "W"], "gone.py: no such config"),
        (["--config", "dixon"], "required: --workdir"),
        (["--workdir", "W"], "required: --config"),
        (
            ["--config", "dixon", "--workdir", "W", "--config.train.num_step=1"],
            'Did you mean "num_steps"',
        ),
        (
            ["--config", "dixon", "--workdir", "W", "--config.train.num_steps=x"],
            "num_steps=x",
        ),
        (["--config", "dixon", "--workdir", "W", "--wokdir=x"], "wokdir"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(trained, argv, message, capsys):
    try:
        status = main(["train", *argv])
    except SystemExit as error:
        status = error.code
    out, err = capsys.readouterr()
    assert status == 2 and not trained and out == ""
    assert err.startswith("cervjax: error: ") and err.count("\n") == 1
    assert message in err


def failing(error):
    def train(*args):
        raise error

    return train


ARGV = ["train", "--config", "dixon", "--workdir", "W"]


def test_a_users_error_is_one_line_unless_debug(monkeypatch, capsys):
    monkeypatch.setattr(loop, "train", failing(ConfigError("config.x is 1")))
    assert main(ARGV) == 2
    assert capsys.readouterr().err == "cervjax: error: config.x is 1\n"
    with pytest.raises(ConfigError):
        main([*ARGV, "--debug"])


def test_divergence_is_exit_1_unless_debug(monkeypatch, capsys):
    monkeypatch.setattr(loop, "train", failing(run.Diverged("step 4: loss nan")))
    assert main(ARGV) == 1
    assert capsys.readouterr().err == "cervjax: error: step 4: loss nan\n"
    with pytest.raises(run.Diverged):
        main([*ARGV, "--debug"])


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch):
    """It is no user's error, such as a config that cannot be used."""
    inner = ValueError("cannot reshape array")
    monkeypatch.setattr(loop, "train", failing(inner))
    with pytest.raises(RuntimeError, match="report") as caught:
        main(ARGV)
    assert caught.value.__cause__ is inner


@pytest.mark.slow
def test_train_py_is_the_same_command():
    argv = [sys.executable, "train.py", "--config", "dixxon", "--workdir", "W"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "no such config" in done.stderr


@pytest.mark.parametrize("missing", ["ml_collections", "grain", "optax", "orbax"])
def test_a_missing_extra_is_named(monkeypatch, capsys, missing):
    def train(*args):
        raise ModuleNotFoundError(f"No module named '{missing}'", name=missing)

    monkeypatch.setattr(loop, "train", train)
    assert main(ARGV) == 2
    assert 'pip install "cervjax[train]"' in capsys.readouterr().err
