"""Losses, and two whole training iterations in float64, against the authors' code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from safetensors import safe_open
from torch import Tensor
from torch.testing import assert_close
from torch.utils.data import DataLoader

from figureground.core.types import Batch
from figureground.losses.adversarial import hinge_fake, hinge_generator, hinge_real
from figureground.methods.redo import ReDO
from figureground.methods.redo.convert import NETWORKS, convert_network

EXACT = {"rtol": 1e-9, "atol": 1e-9}


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {k: file.get_tensor(k) for k in file.keys()}, file.metadata() or {}  # noqa: SIM118


def test_losses_match(golden: Callable[[str], Path]) -> None:
    tensors, _ = read(golden("redo") / "losses.safetensors")
    real, fake = tensors["d_real"], tensors["d_fake"]
    close = {"rtol": 1e-6, "atol": 1e-6}
    assert_close(hinge_real(real), -tensors["expected_d_real_term"].squeeze(), **close)
    assert_close(hinge_fake(fake), -tensors["expected_d_fake_term"].squeeze(), **close)
    assert_close(hinge_generator(fake), tensors["expected_g_adv"].squeeze(), **close)
    error = torch.nn.functional.mse_loss(tensors["z_rec"], tensors["z"])
    assert_close(error, tensors["expected_z_mse"].squeeze(), **close)
    total = hinge_generator(fake) + 5 * error
    assert_close(total, tensors["expected_g_total_w5"].squeeze(), **close)


class Recorder(Callback):
    """Keeps the losses of each iteration and the gradients of the first."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.losses: list[dict[str, float]] = []
        self.gradients: dict[str, Tensor] = {}

    def on_train_batch_end(self, trainer: Any, module: Any, *_: object) -> None:
        self.losses.append({k: float(v) for k, v in module.last_losses.items()})
        trainer.should_stop = len(self.losses) >= self.count

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        if self.losses:
            return
        owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for name, parameter in module.named_parameters():
            if id(parameter) in owned and parameter.grad is not None:
                self.gradients[name] = parameter.grad.clone()


class Stored:
    """A dataset of ready batches."""

    def __init__(self, batches: list[tuple[Batch, Batch]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[tuple[Batch, Batch]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Batch, Batch]:
        return self.batches[index]


@pytest.fixture
def trained(golden: Callable[[str], Path]) -> tuple[ReDO, Recorder, dict[str, Tensor]]:
    tensors, metadata = read(golden("redo") / "train_two_iterations.safetensors")
    config = json.loads(metadata["config"])

    def adam(lr: str, decay: float = 0.0) -> Any:
        return partial(torch.optim.Adam, lr=config[lr], betas=(0.0, 0.9), weight_decay=decay)

    method = ReDO(
        resolution=128,
        num_regions=config["nMasks"],
        latent_dim=config["nz"],
        mask_width=config["nfM"],
        mask_blocks=config["nResM"],
        generator_width=config["nfX"],
        generator_attention=config["attG"],
        discriminator_width=config["nfD"],
        discriminator_attention=config["attD"],
        encoder_width=config["nfZ"],
        latent_weight=config["wrecZ"],
        mask_optimizer=adam("lrM", config["wdecay"]),
        generator_optimizer=adam("lrG"),
        discriminator_optimizer=adam("lrD"),
        encoder_optimizer=adam("lrZ"),
    )
    for theirs, ours in NETWORKS.items():
        getattr(method, ours).load_state_dict(
            convert_network(theirs, part(tensors, f"before/{theirs}/"))
        )

    def image(key: str) -> Batch:
        pixels = (tensors[key].float() / 255 * 2 - 1).double()
        return Batch(pixels, tuple(map(str, range(len(pixels)))))

    batches = [(image(f"iter{i}/x_g_u8"), image(f"iter{i}/x_d_u8")) for i in (0, 1)]
    latents = [tensors[f"iter{i}/z"].flatten(2).double() for i in (0, 1)]
    recorder = Recorder(2)
    trainer = Trainer(
        accelerator="cpu",
        precision="64-true",
        max_epochs=1,
        logger=False,
        callbacks=[recorder],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(Stored(batches), batch_size=None, collate_fn=lambda batch: batch)
    with patch("figureground.methods.redo.module.torch.randn", side_effect=latents):
        trainer.fit(method, loader)
    return method, recorder, tensors


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def test_two_iterations_match(trained: tuple[ReDO, Recorder, dict[str, Tensor]]) -> None:
    method, recorder, tensors = trained
    for number, losses in enumerate(recorder.losses):
        names = ("adversarial", "latent", "generator", "real", "fake")
        found = torch.tensor([losses[name] for name in names], dtype=torch.float64)
        expected = tensors[f"iter{number}/scalars"].double()
        expected[3:] *= -1
        assert_close(found, expected, **EXACT)
    compared = 0
    state = method.state_dict()
    for theirs, ours in NETWORKS.items():
        after = convert_network(theirs, part(tensors, f"after2/{theirs}/"))
        for key, tensor in after.items():
            # Stored in float32: equal after rounding, or one last place off.
            found = state[f"{ours}.{key}"].to(tensor.dtype)
            close = EXACT if tensor.dtype == torch.float64 else {"rtol": 2e-7, "atol": 1e-9}
            assert_close(found, tensor, **close, msg=lambda m, k=key: f"{k}: {m}")
            compared += 1
    assert compared > 200


def test_first_gradients_match(trained: tuple[ReDO, Recorder, dict[str, Tensor]]) -> None:
    _, recorder, tensors = trained
    compared = 0
    for prefix in ("grad_g/", "grad_d/"):
        for theirs, ours in NETWORKS.items():
            stored = part(tensors, f"{prefix}{theirs}/")
            if not stored or (prefix == "grad_g/" and theirs == "netDX"):
                continue
            for key, tensor in convert_network(theirs, stored).items():
                found = recorder.gradients[f"{ours}.{key}"].to(tensor.dtype)
                scale = float(tensor.abs().max())
                assert_close(found, tensor, rtol=1e-5, atol=1e-6 * scale + 1e-12)
                compared += 1
    assert compared > 150
