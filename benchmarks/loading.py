"""Cached loading and prediction: pictures per second against decoding, and against gradients on.

python benchmarks/loading.py [--pictures 300]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import ratios
import torch
from PIL import Image

from figureground.data.datamodule import ImageDataModule
from figureground.data.datasets.folder import Folder
from figureground.data.transforms import ResizeCrop
from figureground.methods.redo import ReDO

RESULTS = Path(__file__).parent / "results" / "loading.json"


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=300)
    count = parser.parse_args().pictures
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        rng = np.random.default_rng(0)
        (root / "p").mkdir()
        for index in range(count):
            # Smooth noise compresses like a photograph.
            small = Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8))
            small.resize((500, 375), Image.Resampling.BICUBIC).save(root / f"p/{index}.jpg")

        def module(cache: str) -> ImageDataModule:
            return ImageDataModule(
                name="b", resolution=128, batch_size=20, transform=ResizeCrop(128),
                cache=cache, cache_dir=str(root / "cache"), train=Folder(str(root / "p")),
            )  # fmt: skip

        def epoch(data: ImageDataModule) -> None:
            batches = iter(data.train_dataloader())
            for _ in range(count // 20):
                next(batches)

        decoding, building, cached = [], [], []
        for round_number in range(3):
            decoding.append(ratios.seconds(lambda: epoch(module("off"))))
            for path in (root / "cache").glob("*") if round_number else []:
                for file in path.iterdir():
                    file.unlink()
                path.rmdir()
            building.append(ratios.seconds(lambda: epoch(module("disk"))))
            warm = module("disk")
            warm.store("train")
            cached.append(ratios.seconds(lambda data=warm: epoch(data)))
    torch.manual_seed(0)
    method = ReDO(resolution=128).eval()
    ours = ReDO(resolution=128).eval()
    ours.load_state_dict(method.state_dict())
    ours.to(memory_format=torch.channels_last)  # As `predict` loads it.
    image = torch.rand(8, 3, 128, 128)

    def infer() -> None:
        with torch.inference_mode():
            ours.segment(image)

    infer()
    plain, inference = [], []
    for _ in range(15):
        plain.append(ratios.seconds(lambda: method.segment(image)))
        inference.append(ratios.seconds(infer))
    ratio = [a / b for a, b in zip(decoding, cached, strict=True)]
    first = [a / b for a, b in zip(building, decoding, strict=True)]
    predict = [a / b for a, b in zip(plain, inference, strict=True)]
    result = {
        "pictures": count,
        "images_per_s_cached": count / statistics.median(cached),
        "images_per_s_decoding": count / statistics.median(decoding),
        "ratio_cached_to_decoding": statistics.median(ratio),
        "first_epoch_to_no_cache": statistics.median(first),
        "predict_ratio": statistics.median(predict),
        "threads": torch.get_num_threads(),
    }
    ratios.save(RESULTS, result)
    print("| what | ratio (median) |\n|---|---|")
    print(f"| cached loading over decoding, images/s | {result['ratio_cached_to_decoding']:.1f} |")
    print(
        f"| first epoch with cache over without, time | {result['first_epoch_to_no_cache']:.2f} |"
    )
    print(f"| predict over eval mode with gradients, speed | {result['predict_ratio']:.2f} |")


if __name__ == "__main__":
    main()
