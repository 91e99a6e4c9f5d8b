"""All steps of `reproduce experiment=voc-semantic` on a made-up folder, small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archives import write_voc
from faults import ROOT, run
from weights import write_resnet

pytestmark = pytest.mark.slow

SMALL = [
    "chain.generator=toy", "chain.search=gan_segmenter-toy", "chain.classes=3", "chain.pairs=64",
    "+steps.search.options={iterations:40,data.batch_size:8,trainer.val_check_interval:40,"
    "trainer.accelerator:cpu,callbacks.image_grid:null}",
    "+steps.sample.options={device:cpu}",
    "+steps.segment.options={iterations:10,trainer.val_check_interval:10,data.batch_size:8,"
    "data.resolution:32,method.width:8,trainer.accelerator:cpu,data.num_workers:0}",
    "+steps.test.options={trainer.accelerator:cpu,data.num_workers:0}",
    "+steps.contrast.options={iterations:2,trainer.val_check_interval:2,data.batch_size:4,"
    "data.resolution:32,method.view_resolution:32,method.head:none,trainer.accelerator:cpu,"
    "data.num_workers:0,pairs.area:[0.0,1.0],pairs.val_share:0.3}",
    "+steps.semantic.options={trainer.accelerator:cpu,metrics.semantic.resolution:64}",
]  # fmt: skip


def test_classes_of_a_folder_in_vocs_layout_are_scored(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", 12, num_classes=3)
    weights = write_resnet(tmp_path / "net.pth", "maskcontrast")
    own = ["experiment=voc-semantic", f"chain.root={root}", f"chain.features={weights}"]
    own.append("chain.trunk=resnet18")
    command = [
        "python",
        ROOT / "src/reproduce.py",
        *own,
        *SMALL,
        f"paths.output_dir={tmp_path}/out",
    ]
    done = run(command, cwd=tmp_path, limit=600)
    assert done.code == 0, done.err
    rows = json.loads((tmp_path / "out/table.json").read_text())
    scores = {row["score"]: row["value"] for row in rows}
    assert float(scores["semantic/objects"]) > 0
    assert 0 <= float(scores["semantic/miou"]) <= 1
    assert (tmp_path / "out/06-contrast/checkpoints/last.ckpt").is_file()
