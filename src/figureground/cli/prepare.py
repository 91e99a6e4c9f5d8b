"""`prepare`: check a dataset whole and build its caches."""

from __future__ import annotations

import logging
import sys

from omegaconf import DictConfig

from figureground.cli import run
from figureground.cli.check import check_job
from figureground.cli.tables import print_table
from figureground.core.command_line import option
from figureground.core.errors import UserError
from figureground.core.escaping import one_line

logger = logging.getLogger(__name__)


def main() -> None:
    """Entry of the command."""
    run(prepare, "prepare")


def prepare(config: DictConfig) -> None:
    """Check `data`, list every broken file, build caches, and print a table.

    With `source=generate` the pictures are drawn and written first.
    """
    check_job(config)
    if config.source is None and config.count is not None:
        raise UserError(f"count={config.count} is of generated pictures; add source=generate")
    from figureground.core.config import build
    from figureground.data.prepare import prepare as prepare_data

    if config.source == "generate":
        _generate(config)
    datamodule = build(config.data)
    reports = prepare_data(datamodule, skip_broken=config.on_error == "skip")
    rows = []
    for split, report in reports.items():
        share = f"{report.foreground:.3f}" if report.masks else "-"
        rows.append([split, str(report.count), str(report.masks), share, str(len(report.problems))])
    head = ["split", "pictures", "masks", "foreground", "broken"]
    title = f"{datamodule.name} at {datamodule.resolution} pixels"
    print_table(head, rows, title=title, numbers=True)
    for report in reports.values():
        for remark in report.remarks:
            sys.stdout.write(f"note: {one_line(remark)}\n")


def _generate(config: DictConfig) -> None:
    """Write the drawn training set of `data` to disk, and let `config` read these from now on."""
    from figureground.core.config import build
    from figureground.data.datasets.multi_objects import MultiObjects

    node = config.data.train
    if "source" in node and "count" in node:
        node.source, node.count = "generate", config.count
    dataset = build(node)
    if not isinstance(dataset, MultiObjects):
        raise UserError(
            f"data={config.data.name} cannot be generated; source=generate is for sets that can be "
            "drawn or read, such as tetrominoes, dsprites and clevr6"
        )
    if dataset.write(overwrite=config.overwrite):
        logger.info("wrote %d pictures to %s", len(dataset), dataset.root)
    else:
        logger.info("the same %d pictures are in %s already", len(dataset), dataset.root)
    logger.info("train on them with %s data.train.source=files", option("data", config.data.name))
    node.source, node.count = "files", None
