"""The page of the command line: every command with every option, those too that the short help leaves out."""

from __future__ import annotations

import html

import typer
from typer.cli import get_docs_for_click

from frostline.cli.main import application


def command_reference() -> str:
    """Return the page in Markdown."""
    group = typer.main.get_command(application)
    for command in group.commands.values():
        for option in command.params:
            if getattr(option, "hidden", False):
                option.hidden = False
        command.params = [option for option in command.params if option.name != "help_all"]  # all is shown here
    context = typer.Context(group, info_name="frostline")
    page = get_docs_for_click(obj=group, ctx=context, name="frostline", title="The command line")
    # The list of commands cuts what each does short; the contents beside the page are that list.
    start, end = page.index("**Commands**"), page.index("## `frostline")
    return html.unescape(page[:start] + page[end:]).strip() + "\n"
