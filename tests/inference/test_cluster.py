"""Scans shared out over workers: the same bytes, also when one is killed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import save_pair

from cervjax.cli.main import main

ROOT = Path(__file__).parents[2]
SCANS = 6


def command(folder, out, weights, *flags):
    script = [sys.executable, str(ROOT / "infer.py"), "in", "-o", out]
    return subprocess.Popen(
        [*script, "--weights", str(weights), *flags],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process):
    text, _ = process.communicate(timeout=400)
    return process.returncode, text


def kill_a_worker_at_work(process, out):
    """As soon as there is a result, so that the others are in the middle of theirs."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        time.sleep(0.02)
        assert process.poll() is None, process.communicate()[0]
        if not list(out.glob("*_dseg.json")):
            continue
        for child in psutil.Process(process.pid).children(recursive=True):
            try:
                if "_Worker.segment" in " ".join(child.cmdline()):
                    child.kill()
                    return
            except psutil.Error:
                continue
    process.terminate()
    raise AssertionError("no worker was seen: " + process.communicate()[0])


def content(folder):
    """All bytes, but of side-cars without times."""
    found = {}
    for path in folder.iterdir():
        if path.name.endswith("_dseg.json"):
            found[path.name] = json.loads(path.read_text()) | {"Seconds": None}
        elif not path.name.startswith("."):  # the record, and a part that was killed
            found[path.name] = path.read_bytes()
    return found


@pytest.mark.slow
def test_a_killed_workers_scan_is_done_again_and_all_bytes_are_the_same(
    tmp_path, two_blobs, random_weights
):
    pytest.importorskip("ray", reason="needs the extra cluster")
    for i in range(SCANS):
        save_pair(tmp_path / "in", two_blobs, f"sub-{i}")
    (tmp_path / "in" / "sub-3_outphase.nii.gz").write_bytes(b"no image")
    status, _ = finished(command(tmp_path, "one", random_weights))
    assert status == 1
    flags = ("--cluster", "local", "--worker-cores", "1", "--device", "cpu")
    process = command(tmp_path, "many", random_weights, *flags)
    kill_a_worker_at_work(process, tmp_path / "many")
    status, text = finished(process)
    assert status == 1, text
    assert text.count("its worker was lost; it is done again") == 1, text
    assert text.count(": done in ") == SCANS - 1, text
    assert content(tmp_path / "many") == content(tmp_path / "one")
    status, text = finished(command(tmp_path, "many", random_weights, *flags))
    assert text.count("already done, skipped") == SCANS - 1, text


def test_without_ray_the_extra_is_named(tmp_path, two_blobs, random_weights, capsys):
    save_pair(tmp_path / "in", two_blobs)
    argv = ["infer", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    argv += ["--weights", str(random_weights), "--cluster", "local"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        assert main(argv) == 2
    assert 'pip install "cervjax[cluster]"' in capsys.readouterr().err
