"""The layers of docs/architecture.md: a package imports only from layers below it. Lazy imports count too."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS = {
    "foundation": 0,
    "model": 1,
    "data": 1,
    "optim": 1,
    "records": 1,
    "objectives": 2,
    "checkpoints": 2,
    "training": 3,
    "interop": 3,
    "planning": 4,
    "evaluation": 4,
    "pairs": 5,
    "studies": 6,
    "requests": 7,
}
COMPOSES = "requests"  # the one package that knows Hydra
FILES = sorted(ROOT.glob("ettin_core/**/*.py"))


def imports(file: Path) -> set[str]:
    """Every module a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide the layer"
            found.add(node.module or "")
    return found


def violations(package: str, modules: set[str]) -> list[str]:
    """Imports of a package that go up, sideways, or out of the library."""
    bad = []
    for module in modules:
        top, *below = module.split(".")
        outside = top in ("experiments", "analysis") or (top in ("hydra", "omegaconf") and package != COMPOSES)
        sideways = top == "ettin_core" and below[0] != package and LAYERS[below[0]] >= LAYERS[package]
        if outside or sideways:
            bad.append(module)
    return bad


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_packages_import_downward(file: Path) -> None:
    parts = file.relative_to(ROOT / "ettin_core").parts
    if len(parts) > 1:
        assert violations(parts[0], imports(file)) == []


def test_a_violation_would_be_seen() -> None:
    assert violations("model", {"ettin_core.objectives.loss"}) == ["ettin_core.objectives.loss"]
    assert violations("data", {"ettin_core.model.config"}) == ["ettin_core.model.config"]
    assert violations("training", {"hydra"}) == ["hydra"]


def test_every_package_has_a_layer() -> None:
    packages = {path.name for path in (ROOT / "ettin_core").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert packages == set(LAYERS)


def test_analysis_reads_records_and_never_a_model() -> None:
    files = list((ROOT / "analysis").glob("**/*.py"))
    assert len(files) > 40
    for file in files:
        inner = {module for module in imports(file) if module.split(".")[0] in ("ettin_core", "experiments", "torch")}
        assert all(module.startswith(("ettin_core.records", "ettin_core.foundation")) for module in inner), file


def test_experiments_do_not_import_analysis() -> None:
    files = list((ROOT / "experiments").glob("*.py"))
    assert len(files) > 20
    for file in files:
        assert not any(module.split(".")[0] == "analysis" for module in imports(file)), file


def test_records_and_reports_import_without_torch() -> None:
    code = "import sys, analysis.report, ettin_core.records.folders; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_looking_at_runs_and_studies_takes_no_torch(tmp_path: Path) -> None:
    """Importing it takes longer than they do."""
    code = """if True:
        import runpy, sys
        for command, *arguments in (["runs"], ["status", "study=smoke"], ["plan", "figure=false", "sizes=[17m]"]):
            sys.argv = [command, *arguments]
            runpy.run_module(f"experiments.{command}", run_name="__main__")
            assert "torch" not in sys.modules, command
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    (tmp_path / "runs").mkdir()
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "0 runs" in done.stdout and "2 missing, 2 waits for its parent" in done.stdout


def test_a_command_starts_and_trains_without_the_compiler_and_what_only_divided_weights_need() -> None:
    slow = (
        "torch._dynamo",
        "torch.distributed.tensor",
        "torch.distributed.fsdp",
        "torch.distributed.checkpoint",
        "transformers",
        "sympy",
    )
    code = f"""if True:
        import sys, torch, experiments.train
        from ettin_core.optim.stable_adamw import StableAdamW
        weights = torch.nn.Parameter(torch.ones(2))
        optimizer = StableAdamW([weights], 0.1)
        weights.grad = torch.ones(2)
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
        optimizer.zero_grad()
        assert weights.grad is None and weights[0] < 1
        assert not [name for name in {slow} if name in sys.modules]
    """
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_one_attention_module() -> None:
    text = "".join(file.read_text() for file in (ROOT / "ettin_core/model").glob("*.py"))
    assert sum(line.startswith("class ") and "Attention(" in line for line in text.splitlines()) == 1
