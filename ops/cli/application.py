"""The command line, put together from its families of verbs."""

from __future__ import annotations

import typer

from ops.cli import deploy, images, lessons, models, observe, operate, trouble

_FAMILIES = (deploy, images, models, lessons, observe, operate, trouble)


def application() -> typer.Typer:
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="`python -m ops <verb>`: the commands behind the Makefile.",
    )
    for family in _FAMILIES:
        app.add_typer(family.app)
    return app
