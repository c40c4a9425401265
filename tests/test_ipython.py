"""Cells as IPython understands them: their names and definitions, whatever stands around them."""

import time

import pytest

from course.ipython import Names, definitions, names, tree

PLAIN = "import math\nfrom a import b as c\nx: int = y\n\ndef f(z):\n    w = 1\n    return z + w + torch.pi"


def test_names_of_plain_python():
    assert names(PLAIN) == Names({"math", "c", "x", "f"}, {"y", "int", "torch"})
    assert names("x = x + 1") == Names({"x"}, {"x"})
    assert names("await f(x)").used == {"f", "x"} and names("return x").used == {"x"}


@pytest.mark.parametrize(
    "magic", ["%%time", "%%capture shown", "%%timeit -n 3", "\n%%prun", "%%wandb", "%%time\n%%capture"]
)
def test_the_magic_of_a_cell_makes_way_for_its_body(magic):
    found = names(f"{magic}\n{PLAIN}")
    assert found.bound >= names(PLAIN).bound and found.used >= names(PLAIN).used and "w" not in found.used
    assert definitions(f"{magic}\n{PLAIN}") == definitions(PLAIN)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("%time v = torch.ones(k)", {"v", "torch", "k"}),
        ("v = %timeit -o g(k)", {"g", "k"}),
        ("!echo {k}", {"k"}),
        ("v = !ls $k", {"k"}),
        ("torch.nn?", {"torch"}),
        ("??g", {"g"}),
        ("%matplotlib widget", set()),
    ],
)
def test_magics_use_the_words_that_they_are_given(line, words):
    found = names(f"{line}\n{PLAIN}")
    assert found.used >= names(PLAIN).used | words and found.bound >= names(PLAIN).bound
    assert tree(f"{line}\n{PLAIN}") is not None and "def f(z)" in definitions(f"{line}\n{PLAIN}")


def test_what_does_not_run_uses_nothing_but_what_is_put_into_a_command():
    assert names("def f(x)\n    return torch.ones(x)").used == set()
    assert names("%%bash\nls {folder} $name *.py").used == {"folder", "name"}
    assert names("%%html\n<b>torch</b>").used == set()
    assert "torch" in names("timeit torch.ones(3)").used  # a magic without its sign
    assert "f" in names("def f(x)\n    return 1").bound


@pytest.mark.parametrize("source", ["torch\n" + "#" * 100_000, "torch\n" + "!ls\n" * 3000, "-" * 90_000 + "torch"])
def test_a_cell_that_takes_too_long_to_understand_may_use_all_that_stands_in_it(source):
    start = time.perf_counter()
    assert "torch" in names(source).used
    assert time.perf_counter() - start < 5


def test_definitions_are_imports_functions_and_what_is_written_out():
    source = f"{PLAIN}\nk = 3\ng = lambda: k\nwhile True:\n    pass\n%time f(3)\nclass A:\n    pass"
    assert [type(node).__name__ for node in tree(definitions(source)).body] == [
        "Import", "ImportFrom", "FunctionDef", "Assign", "Assign", "ClassDef",
    ]  # fmt: skip
    assert definitions("no Python") == ""
