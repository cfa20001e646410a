"""Write the held-out set into a folder: `python -m infra.bench.quality.heldout FOLDER`."""

from __future__ import annotations

from pathlib import Path

import click

from infra.bench.quality.heldout.build import write


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Write main.jsonl and noise.jsonl."""
    write(folder)


main()
