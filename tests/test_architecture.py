"""The house: a module imports only from floors below its own, and importing fmlab is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [
    {"values", "notebooks", "extras", "stills"},
    {"natural", "datasets", "schedules", "models", "metrics", "threads", "autoencoders", "glyphs", "jumps", "tokens"}
    | {"token_datasets", "token_models"},
    {"distributions", "conversions", "transformers", "sentences", "pretrained"},
    {"marginals", "processes", "ddpm", "token_laws"},
    {"paths", "simulators"},
    {"losses"},
    {"samplers", "likelihood", "guidance", "training", "flow_maps"},
    {"unmasking"},
    {"plots"},
    {"widgets"},
    {"guidance_widgets", "latent_widgets", "map_widgets", "token_widgets"},
    {"checks"},
    {"exercises"},
    {"__main__"},
]
MODULES = sorted(path for path in (ROOT / "fmlab").rglob("*.py") if path.name != "__init__.py")


def floor(module: str) -> int:
    return next(k for k, names in enumerate(FLOORS) if module in names)


def imports(path: Path) -> set[str]:
    """Dotted names of everything a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_floors_below(path):
    own = path.relative_to(ROOT / "fmlab").parts[0].removesuffix(".py")
    for name in imports(path):
        package, _, rest = name.partition(".")
        if package == "fmlab" and rest and rest.split(".")[0] != own:
            assert floor(rest.split(".")[0]) < floor(own), f"{own} imports {name}"


def test_only_pictures_widgets_verdicts_and_the_hand_in_know_of_jupyter_and_nothing_of_grading():
    for path in MODULES:
        packages = {name.partition(".")[0] for name in imports(path)}
        assert not packages & {"course", "nbgrader"}, path
        if path.name not in ("notebook.py", "submission.py"):  # read a notebook, and run it as it will be graded
            assert not packages & {"nbformat", "nbclient"}, path
        if path.name not in ("verdict.py", "plots.py") and not path.stem.endswith("widgets"):
            assert not packages & {"IPython", "ipywidgets"}, path


def test_hidden_tests_and_sources_stay_out_of_the_library():
    assert not [path for path in (ROOT / "fmlab").rglob("*") if "hidden" in path.name or "source" in path.name]


def test_importing_fmlab_loads_neither_plots_nor_widgets():
    code = "import sys, fmlab; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"matplotlib", "ipywidgets", "sklearn", "torch"} & set(loaded)


def test_simulating_loads_no_plotting():
    code = "import sys, fmlab.simulators; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
