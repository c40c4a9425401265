"""With torch, numpy and tqdm alone the mathematics runs; what needs more says what, and where it comes from."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRA = ["PIL", "ipykernel", "ipywidgets", "joblib", "matplotlib", "nbclient", "nbformat", "packaging"]
EXTRA += ["psutil", "scipy", "sklearn"]


def run(code: str, missing: list[str] = EXTRA) -> str:
    """What a process prints in which these packages cannot be imported."""
    program = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nsys.modules.update(dict.fromkeys({missing}))\n"
    program += textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


SAYS = 'drawing needs matplotlib, which is not installed: pip install "fmlab[labs]"'
IMPORT_ALL = """
import importlib, pkgutil, fmlab
for module in pkgutil.walk_packages(fmlab.__path__, "fmlab."):
    if module.name.startswith("fmlab.labs"):
        continue
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        print(module.name.removeprefix("fmlab."), "|", error)
"""


def test_every_module_of_the_mathematics_is_imported_without_the_extra_and_figures_say_what_they_need():
    told = dict(line.split(" | ") for line in run(IMPORT_ALL).splitlines())
    assert set(told) == {"plots"} | {path.stem for path in (ROOT / "fmlab").glob("*widgets.py")}
    assert set(told.values()) == {SAYS}


def test_without_the_extra_a_network_is_trained_and_checks_pass():
    said = run(
        """
        import torch
        from fmlab import losses, models, paths, samplers, threads, training
        from fmlab.checks import lab0

        threads.use_idle_cores()
        assert torch.get_num_threads() == 1
        network = models.MLP(2)
        data = torch.randn(64, 2)
        training.train(network, lambda model: losses.flow_matching_loss(model, paths.GaussianPath(), data), steps=25)
        assert samplers.sample_flow(network, torch.randn(5, 2), 3).isfinite().all()

        def draw_noise(n, d):
            return torch.randn(n, d)

        lab0.draw_noise(draw_noise)
        lab0.progress()
        lab0.submission()
        """
    )
    assert "✓ draw_noise" in said and "1 of 2 exercises pass" in said and "which file" in said


def test_what_needs_more_says_what():
    said = run(
        """
        from fmlab import datasets, token_datasets, token_models
        from fmlab.checks import notebook

        for call in (
            datasets.Digits,
            lambda: datasets.Word("flow"),
            token_datasets.ColourNames,
            lambda: token_models.hue_reader([], []),
            lambda: notebook.read("a.ipynb"),
        ):
            try:
                call()
            except ModuleNotFoundError as error:
                print(error)
        """
    )
    assert set(re.findall(r"(.*), which is not installed: pip install \"fmlab\[labs\]\"\n", said)) == {
        "the data set of digits needs sklearn",
        "drawing a word needs matplotlib",
        "the data set of colours needs matplotlib",
        "a reader of hues needs sklearn",
        "reading a notebook needs nbformat",
    }


def test_without_ipywidgets_an_explorer_is_its_picture_with_words_on_what_is_missing():
    said = run(
        """
        import re
        from fmlab import guidance_widgets, latent_widgets, map_widgets, token_widgets, widgets
        for make in (widgets.step_size, widgets.noise_schedules, token_widgets.lifting_masks):
            bundle = make()._repr_mimebundle_()
            print(re.sub('data:image/png;base64,[^"]{1000,}', "PICTURE", bundle["text/html"]))
        """,
        ["ipywidgets"],
    ).splitlines()
    assert len(said) == 3
    for line in said:
        assert "its sliders need ipywidgets, which is not installed" in line
        assert '<img alt="' in line and 'src="PICTURE"' in line
