"""Container and conda files agree with the package."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
APPTAINER = (ROOT / "cervjax.def").read_text("utf-8")
CONDA = (ROOT / "conda" / "recipe.yaml").read_text("utf-8")


def copied() -> set[str]:
    """What the first stage of the Dockerfile takes of the checkout."""
    lines = re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
    return {name for line in lines for name in shlex.split(line)[:-1]}


def test_containers_take_all_that_the_build_needs_and_no_more():
    build = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*build["packages"], *build["force-include"], "pyproject.toml"}
    needed |= {PROJECT["readme"], *PROJECT["license-files"], "requirements.lock"}
    assert copied() == needed
    allowed = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert {line[1:] for line in allowed if line.startswith("!")} == needed
    files = APPTAINER.partition("%files")[2].partition("%post")[0].split()
    assert set(files) - {"/source/"} == needed
    assert all((ROOT / name).exists() for name in needed)


def test_containers_install_the_same():
    for text, extra in ((DOCKERFILE, "${EXTRA}"), (APPTAINER, "{{ extra }}")):
        assert f'.[train,figures,dicom,{extra}]"' in text
        assert "--constraint requirements.lock" in text
        assert "python:3.11-slim" in text
    assert 'ENTRYPOINT ["cervjax"]' in DOCKERFILE and 'exec cervjax "$@"' in APPTAINER
    assert {"figures", "cuda", "cuda13", "tpu"} <= {*PROJECT["optional-dependencies"]}


def requirement(text: str) -> tuple[str, str]:
    name, limits = re.fullmatch(r"([\w-]+?)(?:-base)? *([<>=].*)", text).groups()
    return name, limits


def test_conda_installs_what_pip_installs():
    run = CONDA.partition("  run:\n")[2].partition("\n\n")[0]
    found = {requirement(line) for line in re.findall(r"- (.*)", run)}
    wanted = {requirement(text) for text in PROJECT["dependencies"]}
    assert found == wanted | {("python", PROJECT["requires-python"])}
    assert f'version: "{PROJECT["version"]}"' in CONDA
    command, place = next(iter(PROJECT["scripts"].items()))
    assert f"- {command} = {place}\n" in CONDA
    assert PROJECT["description"] in CONDA


def test_another_requirement_is_seen():
    assert requirement("jax>=0.10,<0.13") == requirement("jax >=0.10,<0.13")
    assert requirement("jax>=0.10") != requirement("jax >=0.11")
    with pytest.raises(AttributeError):
        requirement("jax")
