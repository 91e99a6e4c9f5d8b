"""`prepare`: check a dataset whole and build its caches."""

from __future__ import annotations

from omegaconf import DictConfig

from figureground.cli import run
from figureground.cli.check import check_job


def main() -> None:
    """Entry of the command."""
    run(prepare, "prepare")


def prepare(config: DictConfig) -> None:
    """Check `data`, list every broken file, build caches, and print a table."""
    check_job(config)
    from rich.console import Console
    from rich.table import Table

    from figureground.core.config import build
    from figureground.data.prepare import prepare as prepare_data

    datamodule = build(config.data)
    reports = prepare_data(datamodule, skip_broken=config.on_error == "skip")
    table = Table(title=f"{datamodule.name} at {datamodule.resolution} pixels")
    for column in ("split", "pictures", "masks", "foreground", "broken"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split, report in reports.items():
        share = f"{report.foreground:.3f}" if report.masks else "-"
        table.add_row(split, str(report.count), str(report.masks), share, str(len(report.problems)))
    console = Console()
    console.print(table)
    for report in reports.values():
        for remark in report.remarks:
            console.print(f"note: {remark}", markup=False)
