"""Options that several commands have, and the names that they know."""

from typing import Annotated

import typer

Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, mps.")]

SPACES = "digits, accessory, subject, inception, pixels, dinov2[:FOLDER], clip[:FOLDER], or timm:NAME"
"""Feature spaces that `scorescope report fid` knows."""
