"""Honest submissions that are odd: right where they were written, with what the grader may not have.

Each comes with the lab that it answers, the exercises that earn nothing, all others being worth full marks, and words
of their verdicts, which quote the error.
"""

import copy
import sys
from collections.abc import Iterator
from typing import NamedTuple

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from tests import submissions

LAB0, LAB1 = "lab0_welcome", "lab1_simulation"

INTERPOLATE = "def interpolate(noise, data, t):\n    return (1 - t) * noise + t * data"
NOISE = "def draw_noise(n, d):\n    return torch.randn(n, d)"


class Odd(NamedTuple):
    """lost: exercises that earn nothing. words: of each of their verdicts. cell: seconds that a cell may take."""

    notebook: NotebookNode
    lab: str = LAB0
    lost: frozenset[str] = frozenset()
    words: tuple[str, ...] = ()
    cell: float = 60


def everything() -> dict[str, Odd]:
    """All of them, by what is odd."""
    return {f"{kind}: {name}": odd for kind, made in KINDS.items() for name, odd in made()}


# --- magics -----------------------------------------------------------------------------------------------------------

IN_FRONT = {
    "%%time": "%%time",
    "%%capture": "%%capture",
    "%%capture into a name": "%%capture shown",
    "%%prun": "%%prun -q",
    "%%debug": "%%debug",
    "two magics": "%%capture\n%%time",
    "a magic of a package": "%%wandb",
    "%%cython": "%%cython -a",
    "a line break before the magic": "\n%%time",
}
WITHIN = {
    "%time": "%time x = torch.randn(3)",
    "%timeit": "%timeit -n 1 -r 1 torch.randn(3)",
    "%matplotlib inline": "%matplotlib inline",
    "%matplotlib widget": "%matplotlib widget",
    "%matplotlib notebook": "%matplotlib notebook",
    "%config": "%config InlineBackend.figure_format = 'retina'",
    "%autoreload": "%load_ext autoreload\n%autoreload 2",
    "an extension that is not here": "%load_ext tensorboard\n%tensorboard --logdir runs",
    "a magic of Colab": "%tensorflow_version 2.x",
    "%cd": "%cd /content/drive/MyDrive",
    "%env": "%env CUDA_VISIBLE_DEVICES=0",
    "%pip": "%pip --version",
    "!pip": "!pip --version",
    "pip without a sign": "pip --version",
    "!nvidia-smi": "!nvidia-smi",
    "a name for what a command prints": "files = !ls\nprint(files)",
    "help in front": "?torch.randn",
    "help behind": "torch.randn?",
    "its source": "torch.nn.Linear??",
    "%who": "%who",
    "%debug": "%debug",
    "%%timeit is not the first line": "pass\n%%timeit",
    "await": "import asyncio\nawait asyncio.sleep(0)",
    "input": "input('Go on? ')",
    "getpass": "import getpass\ngetpass.getpass()",
    "a return outside": "return",
    "exit": "exit()",
    "sys.exit": "import sys\nsys.exit()",
    "a GPU": "torch.zeros(1).cuda()",
    "a file of theirs": "torch.load('weights.pt')",
    "a check that fails": "assert torch.cuda.is_available(), 'no GPU'",
    "a package that is not here": "import seaborn as sns\nsns.set_theme()",
    "prompts copied along": ">>> x = 1",
}
OF_THEIR_OWN = {
    "%%html": "%%html\n<b>done</b>",
    "%%javascript": "%%javascript\nalert('done')",
    "%%bash": "%%bash\nls",
    "%%latex": "%%latex\n$x_t$",
    "%%sql": "%%sql\nSELECT * FROM runs",
    "%%javascript of a name": "%%js\ninterpolate = 1",
    "%%python3": "%%python3\ndef interpolate():\n    pass",
    "%%writefile": "%%writefile helper.py\ndef double(x):\n    return 2 * x",
    "prose": "Here I tried torch and draw_noise first.",
    "half a cell": "for interpolate in",
    "a widget": "import ipywidgets\nipywidgets.interact(lambda t: t, t=(0.0, 1.0))",
    "a progress bar": "from tqdm.notebook import tqdm\nfor _ in tqdm(range(3)):\n    pass",
}


def magics() -> Iterator[tuple[str, Odd]]:
    for name, magic in IN_FRONT.items():
        timed = {"draw_noise": f"{magic}\n{NOISE}", "interpolate": f"{magic}\n{INTERPOLATE}"}
        yield f"{name} in front of answers", Odd(submissions.with_answers(LAB0, timed))
    for name, line in WITHIN.items():
        around = {"draw_noise": f"{line}\n{NOISE}", "interpolate": f"{INTERPOLATE}\n{line}"}
        yield f"{name} above and below answers", Odd(submissions.with_answers(LAB0, around))
    for name, source in OF_THEIR_OWN.items():
        yield f"{name} in a cell", Odd(added(submissions.solved(LAB0), source))
    every = submissions.solved(LAB1)
    for cell in every.cells:
        if cell.id.endswith("-answer"):
            cell.source = f"%%time\n{cell.source}"
    yield "%%time in each answer of lab 1", Odd(every, LAB1)
    module, every = "%%writefile mine.py\nimport torch\n", submissions.solved(LAB1)
    for cell in every.cells:
        if cell.id.endswith("-answer") and cell.cell_type == "code":
            module += f"{cell.source}\n\n"
            cell.source = f"from mine import {cell.id.removesuffix('-answer')}"
    yield "each answer of lab 1 in a module", Odd(added(every, module), LAB1)
    helper = "%%time\ndef towards(a, b, t):\n    return a + t * (b - a)"
    use = {"interpolate": "def interpolate(noise, data, t):\n    return towards(noise, data, t)"}
    yield "a helper timed", Odd(added(submissions.with_answers(LAB0, use), helper))
    figure = {"ou_drift": "%%time\ndef ou_drift(x, t, theta):\n    assert callable(rotation)\n    return -theta * x"}
    yield "a name of the lab's figure in a timed cell", Odd(submissions.with_answers(LAB1, figure), LAB1)


def added(nb: NotebookNode, source: str, place: int = 3) -> NotebookNode:
    nb = copy.deepcopy(nb)
    nb.cells.insert(place, new_code_cell(source, id="mine"))
    return nb


# --- the cell with the imports ----------------------------------------------------------------------------------------

FIRST = {
    "seaborn": "import seaborn as sns",
    "Colab's drive": "from google.colab import drive\ndrive.mount('/content/drive')",
    "Colab's path": "import sys\nsys.path.append('/content')\n%cd /content",
    "Kaggle's secrets": "from kaggle_secrets import UserSecretsClient\nkey = UserSecretsClient().get_secret('key')",
    "Deepnote's toolkit": "import deepnote_toolkit",
    "a widget backend": "%matplotlib widget",
    "a style": "import matplotlib.pyplot as plt\nplt.style.use('seaborn-bright')",
    "installing": "!pip install seaborn\n%pip install seaborn",
    "logging in": "import wandb\nwandb.login()",
    "a folder": "import os\nos.chdir('/home/me/course')",
    "a GPU": "import torch\ntorch.cuda.set_device(0)",
    "a GPU for all": "import torch\ntorch.set_default_device('cuda')",
    "a syntax error": "import torch as",
    "leaving": "import os\nos._exit(0)",
}


def setups() -> Iterator[tuple[str, Odd]]:
    for name, lines in FIRST.items():
        nb = submissions.solved(LAB1 if name == "seaborn" else LAB0)
        imports = submissions.setup(nb)
        imports.source = f"{lines}\n{imports.source}"
        yield f"{name} first", Odd(nb, LAB1 if name == "seaborn" else LAB0)
        yield f"{name} in a cell above", Odd(added(submissions.solved(LAB0), lines, place=0))
    use = {"interpolate": "def interpolate(noise, data, t):\n    return noise + GAIN * towards(noise, data, t)"}
    nb = submissions.with_answers(LAB0, use)
    submissions.setup(
        nb
    ).source = (
        f"import seaborn\n{submissions.setup(nb).source}\nGAIN = 1\n\n\ndef towards(a, b, t):\n    return t * (b - a)"
    )
    yield "a helper below what fails", Odd(nb)
    nb = submissions.solved(LAB0)
    submissions.setup(nb).source = "import torch\nimport seaborn"
    yield "some imports gone", Odd(nb)


# --- answers ----------------------------------------------------------------------------------------------------------


def right() -> Iterator[tuple[str, Odd]]:
    """Right answers, whatever else stands in their cells."""
    cells = {
        "a plot that fails below": f"{INTERPOLATE}\n\n\nimport seaborn\nseaborn.scatterplot()",
        "a trial that fails below": f"{INTERPOLATE}\n\n\ninterpolate(torch.ones(2), torch.ones(3), 0.5)",
        "another try below what fails": f"{INTERPOLATE}\n\n\n1 / 0\n\n\ndef interpolate(*_):\n    return None",
        "its check in the same cell": f"{INTERPOLATE}\n\n\nlab0.interpolate(interpolate)",
        "an old annotation": f"from __future__ import annotations\n\n\n{INTERPOLATE}",
        "match": "def interpolate(noise, data, t):\n    match t:\n        case _:\n"
        "            return noise + t * (data - noise)",
        "joblib": "import joblib\n\n\ndef interpolate(noise, data, t):\n"
        "    parts = joblib.Parallel(n_jobs=2, prefer='threads')(\n"
        "        joblib.delayed(torch.mul)(x, w) for x, w in ((noise, 1 - t), (data, t)))\n    return sum(parts)",
        "threads": "from concurrent.futures import ThreadPoolExecutor\n\n\ndef interpolate(noise, data, t):\n"
        "    with ThreadPoolExecutor() as pool:\n        return sum(pool.map(torch.mul, (noise, data), (1 - t, t)))",
        "asyncio": "import asyncio\n\n\nasync def slowly(x):\n    return x\n\n\ndef interpolate(noise, data, t):\n"
        "    return asyncio.run(slowly(noise + t * (data - noise)))",
        "a command": "import subprocess\n\n\ndef interpolate(noise, data, t):\n"
        "    subprocess.run(['true'], check=True)\n    return noise + t * (data - noise)",
        "negative bit": "def interpolate(noise, data, t):\n    z = torch.complex(torch.zeros_like(noise), -noise)\n"
        "    return z.conj().imag + t * (data - noise)",
        "negative bit of what comes back": "def interpolate(noise, data, t):\n    x = noise + t * (data - noise)\n"
        "    return torch.complex(torch.zeros_like(x), -x).conj().imag",
        "conjugate bit": "def interpolate(noise, data, t):\n    z = torch.complex(noise, data).conj()\n"
        "    return (1 - t) * z.real - t * z.imag",
        "a compiled function": "@torch.compile(backend='eager')\ndef interpolate(noise, data, t):\n"
        "    return noise + t * (data - noise)",
    }
    for name, source in cells.items():
        yield name, Odd(submissions.with_answers(LAB0, {"interpolate": source}))
    single = "def draw_noise(n, d):\n    return torch.randn(n, d, dtype=torch.float16)"
    yield "float16", Odd(submissions.with_answers(LAB0, {"draw_noise": single}))
    own = {
        "workers of a DataLoader": "from torch.utils.data import DataLoader\n"
        "points = torch.cat([*DataLoader(torch.arange(6.0), batch_size=2, num_workers=2)])\nassert len(points) == 6",
        "multiprocessing": "import multiprocessing\nwith multiprocessing.Pool(2) as pool:\n"
        "    assert pool.map(abs, [-1, 2]) == [1, 2]",
        "torch.multiprocessing": "import torch.multiprocessing as mp\nqueue = mp.get_context('fork').SimpleQueue()\n"
        "process = mp.get_context('fork').Process(target=queue.put, args=(torch.ones(3),))\nprocess.start()\n"
        "assert queue.get().sum() == 3",
    }
    for name, source in own.items():
        used = source.partition("=")[0].split()[-1] if name == "workers of a DataLoader" else "True"
        answer = f"{source}\nFINE = {used} is not None\n\n\ndef interpolate(noise, data, t):\n    assert FINE\n"
        yield (
            name,
            Odd(submissions.with_answers(LAB0, {"interpolate": f"{answer}    return noise + t * (data - noise)"})),
        )
    endless = f"{INTERPOLATE}\n\n\nimport time\nwhile True:\n    time.sleep(1)"
    yield "training that takes too long below", Odd(submissions.with_answers(LAB0, {"interpolate": endless}), cell=5)


NEWER = {
    "PEP 695": (3, 12, "def interpolate[T](noise: T, data: T, t: float) -> T:\n    return noise + t * (data - noise)"),
    "a type statement": (3, 12, f"type Points = torch.Tensor\n\n\n{INTERPOLATE}"),
    "PEP 701": (3, 12, f'{INTERPOLATE}\n\n\nwords = {{\'a\': 1}}\nprint(f"{{words["a"]}}")'),
    "PEP 758": (3, 14, f"{INTERPOLATE}\n\n\ntry:\n    pass\nexcept TypeError, ValueError:\n    pass"),
}


def quoted() -> Iterator[tuple[str, Odd]]:
    """Answers that cannot run here, and the error that their verdicts quote."""
    numba = "from numba import njit\n\n\n@njit\n" + INTERPOLATE
    missing = "ModuleNotFoundError: No module named 'numba'"
    yield "a decorator that is not here", lost(numba, missing)
    plain = "import seaborn as sns\n\n\ndef interpolate(noise, data, t):\n    sns.light()\n    return noise"
    yield "a package within", lost(plain, "name 'sns' is not defined", "No module named 'seaborn'")
    nb = submissions.with_answers(LAB0, {"interpolate": f"@njit\n{INTERPOLATE}"})
    submissions.setup(nb).source += "\nfrom numba import njit"
    words = ("NameError: name 'njit' is not defined", "the cell that begins with 'import torch'", missing)
    yield "a decorator from the imports", Odd(nb, lost=frozenset({"interpolate"}), words=words)
    yield (
        "a cell of Cython",
        lost("%%cython\ncdef double interpolate(double x):\n    return x", "Cell magic `%%cython`"),
    )
    slip = INTERPOLATE.replace("t):", "t)")
    yield "a slip", lost(slip, "its cell ended with an error: SyntaxError", f"Python {sys.version_info.major}.")
    yield "an indent", lost("def interpolate(noise, data, t):\nreturn noise", "IndentationError: ")
    for name, (*version, source) in NEWER.items():
        if sys.version_info >= tuple(version):
            yield name, Odd(submissions.with_answers(LAB0, {"interpolate": source}))
        else:
            here = f"this is Python {sys.version_info.major}.{sys.version_info.minor}."
            yield name, lost(source, "its cell ended with an error: SyntaxError", here)
    other = "import seaborn\n" + "\n".join(["helper = seaborn.light", NOISE])
    nb = submissions.with_answers(LAB0, {"draw_noise": other, "interpolate": f"helper()\n@helper\n{INTERPOLATE}"})
    words = ("name 'helper' is not defined", "the cell of draw_noise ended with an error: ModuleNotFoundError")
    yield "what another exercise's cell was to define", Odd(nb, lost=frozenset({"interpolate"}), words=words)


def lost(source: str, *words: str) -> Odd:
    """A cell for `interpolate` that earns nothing."""
    return Odd(submissions.with_answers(LAB0, {"interpolate": source}), lost=frozenset({"interpolate"}), words=words)


# --- where it was written ---------------------------------------------------------------------------------------------


def programs() -> Iterator[tuple[str, Odd]]:
    """Notebooks as other programs save them, with the cells that one writes there."""
    mount = "from google.colab import drive\ndrive.mount('/content/drive')\n!pip install -q fmlab"
    yield "Colab", Odd(saved(mount, {"colab": {"provenance": []}, "accelerator": "GPU"}, {"id": "x", "outputId": "y"}))
    kaggle = (
        "import numpy as np\nimport os\nfor place, _, files in os.walk('/kaggle/input'):\n    print(files)\n!nvidia-smi"
    )
    yield "Kaggle", Odd(saved(kaggle, {"kaggle": {"isGpuEnabled": True}}, {"_uuid": "x", "_cell_guid": "y"}))
    code = "import os\nprint(__vsc_ipynb_file__)\n%cd $os.path.dirname(__vsc_ipynb_file__)"
    yield "VS Code", Odd(saved(code, {"language_info": {"name": "python"}}, {"vscode": {"languageId": "python"}}))
    note = {"source_hash": "x", "execution_start": 1, "cell_id": "y", "deepnote_cell_type": "code"}
    yield "Deepnote", Odd(saved("import deepnote_toolkit\n_deepnote_run_altair = 1", {"deepnote": {}}, note))


def saved(first: str, metadata: dict, of_cells: dict) -> NotebookNode:
    """Lab 0 in format 4.0, without ids and nbgrader's metadata, below a cell of their own, and with a title."""
    nb = submissions.solved(LAB0)
    imports = submissions.setup(nb)
    imports.source = f"#@title Imports\n{first}\n{imports.source}"
    nb.cells = [new_markdown_cell("# My course"), new_code_cell(first), *nb.cells]
    for number, cell in enumerate(nb.cells):
        cell.pop("id", None)
        cell.metadata = NotebookNode({**of_cells, "number": number})
    nb.metadata, nb.nbformat_minor = NotebookNode(metadata), 0
    return nb


KINDS = {"magics": magics, "set-up": setups, "right": right, "quoted": quoted, "program": programs}
