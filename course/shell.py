"""IPython as a student's notebook finds it, without a terminal; what fails costs itself, and nothing that follows.

A notebook that ran elsewhere may ask for what is not here: a package, a magic, a file, a person at the keyboard. There
it went on, so it goes on here: every statement of a cell runs, also below one that failed.
"""

from __future__ import annotations

import ast

from IPython.core.displayhook import DisplayHook
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

TIMED = ("time", "prun", "debug")  # magics of whole cells that run them as they are


class Published(DisplayHook):
    """The value of a cell's last expression is published like all that a cell displays."""

    def write_output_prompt(self):
        pass

    def write_format_data(self, format_dict, md_dict=None):
        self.shell.display_pub.publish(format_dict, md_dict)


class Shell(InteractiveShell):
    """IPython without a terminal."""

    displayhook_class = Published

    def enable_gui(self, gui=None):
        pass

    async def run_ast_nodes(self, nodelist, cell_name, interactivity="last_expr", compiler=compile, result=None):
        """Run the statements of a cell. What was defined above one that failed is not defined again below it, as it was
        not where the cell ended there."""
        failed, defined = False, set()
        for node in nodelist:
            if failed and _defined(node) in defined:
                continue
            shown = interactivity if node is nodelist[-1] or interactivity == "all" else "none"
            failed |= bool(await super().run_ast_nodes([node], cell_name, shown, compiler, result))
            defined |= {_defined(node)} - {None}
        return failed

    def run_cell_magic(self, magic_name, line, cell):
        """Run a cell by a magic; as it is, where the magic is not known here."""
        if magic_name not in TIMED:
            try:
                return super().run_cell_magic(magic_name, line, cell)
            except UsageError as error:
                if self.find_cell_magic(magic_name):
                    raise
                self.show_usage_error(error)
        self.run_cell(cell)

    def show_usage_error(self, exc):
        """A magic that is not known is an error like any other."""
        self._showtraceback(UsageError, exc, [f"UsageError: {exc}"])


def _defined(node: ast.stmt) -> str | None:
    """The function or class that a statement defines."""
    return getattr(node, "name", None)
