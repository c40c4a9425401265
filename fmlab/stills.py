"""What explorers are made of where ipywidgets is missing: values that stay as they are."""

from __future__ import annotations

from types import SimpleNamespace


class Still:
    """Takes what a widget takes, and keeps its value: the one that is given, or the first of its options."""

    def __init__(self, value=None, *_, options=(), **__):
        self.value = next(iter(options), "") if value is None else value
        self.style, self.layout = SimpleNamespace(), SimpleNamespace()

    def observe(self, *_) -> None:
        """Nothing changes, so nobody is told."""


HTML = Dropdown = FloatLogSlider = FloatSlider = IntSlider = SelectionSlider = Still


class VBox:
    def __init__(self, children):
        self.children = tuple(children)
