"""An installed package, used from another folder, beside a user's own packages of the same names."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from experiments.__main__ import COMMANDS

PACKAGES = ("experiments", "analysis")
ROOT = Path(__file__).resolve().parents[2]


def modules(package: str) -> set[str]:
    """The modules of a package that are run as commands."""
    files = (ROOT / package).glob("[!_]*.py")
    return {file.stem for file in files if '__name__ == "__main__"' in file.read_text()}


def test_every_command_is_listed_once() -> None:
    named = {
        package: {name for name, module in COMMANDS.items() if module == f"{package}.{name}"} for package in PACKAGES
    }
    assert named["experiments"] == modules("experiments") and named["analysis"] <= modules("analysis")
    assert len(COMMANDS) == sum(map(len, named.values()))


def test_the_list_of_commands_needs_no_torch() -> None:
    code = "import sys; sys.argv = ['ettin']; import experiments.__main__ as e; e.main(); assert 'torch' not in sys.modules"
    listed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert listed.returncode == 0 and "A whole study" in listed.stdout
    wrong = subprocess.run([sys.executable, "-m", "experiments", "trian"], cwd=ROOT, capture_output=True, text=True)
    assert wrong.returncode == 2 and "command='trian' is not a command; did you mean 'train'?" in wrong.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts' folder of a new environment into which the wheel was installed; libraries are this environment's."""
    folder = tmp_path_factory.mktemp("installed")
    wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
    subprocess.run(wheel, check=True, cwd=folder)
    environment = folder / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")  # its own .pth files are not read
    python = environment / "bin" / "python"
    (file,) = folder.glob("*.whl")
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "-q",
        "--no-deps",
        "--ignore-installed",
        str(file),
    ]
    subprocess.run(install, check=True, cwd=folder)
    return environment / "bin"


@pytest.mark.slow
def test_the_wheel_runs_a_study_from_another_folder(installed: Path, tmp_path: Path) -> None:
    for name in ("experiments", "analysis"):  # a user's own
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('the user\\'s own')")
    (tmp_path / "mine" / "member").mkdir(parents=True)
    own = "name: mine\ndirection: prefix\nobjective: {name: clm}\n"
    (tmp_path / "mine" / "member" / "mine.yaml").write_text(own)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def ettin(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [str(installed / "ettin"), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    study = ettin("study", "study=smoke")
    assert study.returncode == 0, study.stderr[-2000:]
    assert [*tmp_path.glob("studies/*/report/index.html")]
    dry = ettin(
        "train",
        "--config-dir",
        "mine",
        "member=mine",
        "recipe=smoke",
        "data.documents=1500",
        "dry_run=true",
        "machine.tokens_per_second=1000",
    )
    assert dry.returncode == 0 and "mine" in dry.stdout, dry.stderr[-2000:]
    where = [str(installed / "python"), "-P", "-c", "import ettin_core; print(ettin_core.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout
    assert str(installed.parent) in found


TOUR = """if True:
    import sys, nbformat
    from nbclient import NotebookClient
    tour = nbformat.read(sys.argv[1], as_version=4)
    NotebookClient(tour, timeout=240).execute()
    print("".join(output.get("text", "") for cell in tour.cells for output in cell.get("outputs", [])))
    """


@pytest.mark.slow
def test_the_tour_runs_from_another_folder_on_the_installed_package(installed: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(installed / "python"), "-P", "-c", TOUR, str(ROOT / "docs" / "examples" / "tour.ipynb")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "left better" in done.stdout and "heldout_mlm: world accuracy" in done.stdout
    assert [*tmp_path.glob("runs/nano-skip-*/COMPLETE")]


@pytest.mark.slow
def test_type_hints_reach_a_users_script(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import ettin_core as ettin\nreveal_type(ettin.train('recipe.tokens=3e6', size='nano').history)\nettin.tarin()\n"
    )
    others = ",".join(f"{name}.*" for name in ("torch", "transformers", "numpy", "huggingface_hub", "tokenizers"))
    (tmp_path / "mypy.ini").write_text(f"[mypy]\n[mypy-{others}]\nfollow_imports = skip\n")  # they take minutes
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "mypy", "--python-executable", str(installed / "python"), "script.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "list[ettin_core.records.schema.TrainingRecord]" in done.stdout, done.stdout[-2000:]
    assert 'Module has no attribute "tarin"' in done.stdout
