"""The import picture of the README, held: who may import whom, and what importing may cost."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORBIDDEN = {
    "detox": {"ray", "rayjobs", "serve", "tune_spaces", "tests", "benchmarks"},
    "tune_spaces": {"ray", "torch", "transformers", "serve", "tests", "benchmarks"},
    "rayjobs": {"tests", "benchmarks"},
    "serve": {"rayjobs", "tune_spaces", "tests", "benchmarks"},
}


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", FORBIDDEN)
def test_arrows(package: str) -> None:
    wrong = {
        str(path.relative_to(ROOT)): sorted(bad)
        for path in (ROOT / package).rglob("*.py")
        if (bad := imports_of(path) & FORBIDDEN[package])
    }
    assert not wrong


def test_listing_jobs_and_help_import_neither_torch_nor_ray() -> None:
    """A job's `--help` answers at once: 6 s of imports would be paid at every look."""
    code = (
        "import sys, rayjobs.__main__ as main\n"
        "main.jobs()\n"
        "print([name for name in ('torch', 'ray', 'transformers', 'datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_a_module_does_nothing(tmp_path: Path) -> None:
    """Every module imports in an empty folder and leaves it, and the environment, as they were."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in ("detox", "rayjobs", "serve")
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.name != "__main__.py"
    ]
    code = (
        "import os, importlib\n"
        "before = dict(os.environ)\n"
        f"for name in {names!r}: importlib.import_module(name.removesuffix('.__init__'))\n"
        "ours = [k for k in os.environ if k not in before and k.startswith(('DETOX', 'RAY_TRAIN', 'WANDB'))]\n"
        "assert not ours, ours"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        check=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home")},
    )
    assert not [path for path in tmp_path.iterdir() if path.name != "home"]
