"""ILSGAN beyond the authors' numbers: perturbations, options, mended gradients, snapshots."""

from __future__ import annotations

import logging
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.testing import assert_close

from figureground.cli.convert import convert
from figureground.cli.picking import require_critic
from figureground.core.checkpoint import load_method, read_checkpoint
from figureground.core.errors import CheckpointError, UserError
from figureground.core.protocols import Decomposer, LayerGenerator, Segmenter
from figureground.methods.ilsgan import ILSGAN
from figureground.methods.ilsgan.cleaning import GradientCleaner
from figureground.methods.ilsgan.convert import convert_checkpoint
from figureground.methods.ilsgan.densities import make_densities
from figureground.methods.ilsgan.independence import (
    Independence,
    draw_negatives,
    independence_loss,
    make_pairs,
)
from figureground.methods.ilsgan.perturbation import (
    LayeredPicture,
    Perturbation,
    change_contrast,
    move_affinely,
    shift_pixels,
)
from figureground.methods.ilsgan.schedules import Sigma
from figureground.nn.ada import AdaController, AugmentPipe
from figureground.nn.resample import fir_kernel
from figureground.nn.stylegan2_discriminator import DiscriminatorArchitecture

TINY: dict[str, Any] = {
    "resolution": 16, "batch_size": 4, "latent_dim": 8, "style_width": 8, "mapping_depth": 2,
    "max_width": 8, "channel_base": 128, "density_width": 4,
}  # fmt: skip


def test_shift_is_that_of_a_loop() -> None:
    image = torch.rand(3, 2, 5, 6)
    shift = torch.tensor([[1, -2], [0, 3], [-6, 0]])
    expected = torch.zeros_like(image)
    for b, (dx, dy) in enumerate(shift.tolist()):
        for y in range(5):
            for x in range(6):
                if 0 <= y - dy < 5 and 0 <= x - dx < 6:
                    expected[b, :, y, x] = image[b, :, y - dy, x - dx]
    assert torch.equal(shift_pixels(image, shift), expected)


def test_affine_map_shifts_and_turns() -> None:
    image, none = torch.rand(2, 4, 16, 16), torch.zeros(2)
    shares = torch.tensor([[0.25, -0.5], [0.0, 0.125]])
    moved = move_affinely(image, shares, none, none)
    assert_close(moved, shift_pixels(image, (shares * 16).long()), rtol=0, atol=1e-5)
    turned = move_affinely(image, 0 * shares, none + 90, none)
    assert_close(turned, image.rot90(-1, (2, 3)), rtol=0, atol=1e-5)


def test_contrast_stays_within_the_extremes() -> None:
    image = torch.rand(2, 3, 8, 8)
    changed = change_contrast(image, torch.tensor([0.5, -1.0]))
    assert changed[0].max() <= image[0].max()
    assert changed[0].std() > image[0].std()
    assert_close(changed[1], image[1].mean().expand(3, 8, 8), rtol=0, atol=1e-6)


def test_every_perturbation_uses_its_draws() -> None:
    picture = LayeredPicture(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8))
    for perturbation, count in (
        (Perturbation(), 2),
        (Perturbation(shift=0, rotate=30), 4),
        (Perturbation(contrast=0.2), 5),
        (Perturbation(shift=0), 2),
    ):
        assert perturbation.num_draws == count
        moved = perturbation(picture, torch.ones(2, count))
        assert torch.equal(moved.mask, picture.mask) != perturbation.moves


def test_derangement_leaves_nobody_in_place() -> None:
    for count in (2, 5, 32):
        negatives = draw_negatives(count, "derangement")
        assert sorted(negatives.tolist()) == list(range(count))
        assert (negatives != torch.arange(count)).all()


def test_sigma_over_time() -> None:
    assert [Sigma().at(n) for n in (0, 399_999, 400_000)] == [0.2, 0.2, 1.0]
    off = Sigma(strategy="cool_down")
    assert [off.at(n) for n in (0, 400_000, 600_000, 1_199_999, 1_200_000)] == [0.2, 1, 0, 0, 1]
    assert Sigma(strategy="cos").at(200_000) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"batch_size": 18}, "multiple of 4, got 18"),
        ({"batch_size": 12, "group_size": 8}, "multiple of 8, got 12"),
        ({"channel_base": 8}, "channel_base must be the resolution"),
        ({"low_precision_blocks": 1, "conv_clamp": None}, "float16 overflows without a limit"),
        ({"controller": AdaController()}, "set controller=null"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        ILSGAN(**{**TINY, **options})


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="set shift=0"):
        Perturbation(rotate=3)
    with pytest.raises(ValueError, match="knows no pairs"):
        Independence("distance", pairs="whole")


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"kind": "distance", "detach_mask": True}, "detach_mask=true counts with kind=laplace, "),
        ({"kind": "distance", "negatives": "derangement"}, "negatives=derangement counts with"),
        ({"kind": "free_distance", "detach_condition": True}, "got kind=free_distance"),
        ({"kind": "free_distance", "detach_mask": True}, "got kind=free_distance"),
        ({"kind": "learned_laplace", "negative_weight": 0.5}, "negative_weight=0.5 counts with"),
        ({"kind": "learned_pixelcnn", "reduction": "sum"}, "reduction=sum counts with"),
        ({"mask_condition": False}, "mask_condition=false counts with pairs=foreground_given_"),
        ({"pairs": "whole", "detach_mask": True}, "detach_mask=true does nothing with"),
    ],
)
def test_switches_that_would_do_nothing_are_refused(options: dict[str, Any], fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        Independence(**options)


@pytest.mark.parametrize("kind", ["laplace", "normal", "learned_normal"])
def test_switches_that_are_accepted_change_the_loss(kind: Any) -> None:
    method = ILSGAN(**TINY, independence=Independence(kind)).eval()
    switches: list[dict[str, Any]] = [
        {"detach_mask": True}, {"detach_condition": True}, {"negatives": "derangement"}
    ]  # fmt: skip
    if kind in {"laplace", "normal"}:
        switches += [{"negative_weight": 0.5}, {"reduction": "sum"}]

    def outcome(options: Independence) -> list[Tensor]:
        torch.manual_seed(3)
        layers = [torch.rand(4, count, 16, 16).requires_grad_() for count in (3, 3, 1)]
        loss = independence_loss(LayeredPicture(*layers), options, list(method.densities))
        grads = torch.autograd.grad(loss, layers, allow_unused=True, materialize_grads=True)
        return [loss.detach(), *grads]

    plain = outcome(Independence(kind))
    for switch in switches:
        changed = outcome(Independence(kind, **switch))
        assert any(not torch.equal(a, b) for a, b in zip(plain, changed, strict=True)), switch


@pytest.mark.parametrize("masked", [True, False])
def test_one_sided_pairs_give_what_is_seen_of_a_layer_or_all_of_it(masked: bool) -> None:
    background, foreground, mask = (torch.rand(2, c, 4, 4) for c in (3, 3, 1))
    picture = LayeredPicture(background, foreground, mask)
    seen = foreground * mask, background * (1 - mask)
    options = Independence(pairs="foreground_given_background", mask_condition=masked)
    (found,) = make_pairs(picture, options)
    for ours, expected in zip(found, (seen[0], seen[1] if masked else background), strict=True):
        assert torch.equal(ours, expected)
    options = Independence(pairs="background_given_foreground", mask_condition=masked)
    (found,) = make_pairs(picture, options)
    for ours, expected in zip(found, (seen[1], seen[0] if masked else foreground), strict=True):
        assert torch.equal(ours, expected)


def test_floors_are_as_published() -> None:
    floors = {
        shake: ILSGAN(**TINY, perturbation=perturbation).ground_floor
        for shake, perturbation in {
            "shift": Perturbation(), "none": None, "still": Perturbation(shift=0),
            "contrast": Perturbation(shift=0, contrast=0.3),
        }.items()
    }  # fmt: skip
    assert floors == {"shift": 0, "none": 0.25, "still": 0.25, "contrast": 0}


@pytest.mark.parametrize("kind", ["laplace", "learned_normal"])
def test_kind_alone_brings_its_published_weights(kind: Any) -> None:
    method = ILSGAN(**TINY, independence=Independence(kind))
    learned = kind.startswith("learned")
    assert method.sigma.weights == ((1e-3, 1e-3) if learned else (0.2, 1.0))
    given = ILSGAN(**TINY, independence=Independence(kind), sigma=Sigma(last=0.5))
    assert given.sigma.weights == (1e-3 if learned else 0.2, 0.5)


def test_learned_densities_are_as_wide_as_published() -> None:
    with torch.device("meta"):  # They are large.
        widths = {
            kind: make_densities(Independence(kind), None)[0].state_dict()
            for kind in ("learned_laplace", "learned_pixelcnn")
        }
    assert len(widths["learned_laplace"]["stem.conv_a.weight"]) == 64
    assert sum(each.numel() for each in widths["learned_laplace"].values()) > 6_323_014
    # Two streams of 80 channels, doubled by their gates.
    assert any(len(each) == 160 for each in widths["learned_pixelcnn"].values() if each.dim() == 4)


def test_adam_keeps_its_pace_whatever_the_interval() -> None:
    method = ILSGAN(**TINY, r1_every=4)
    assert method.configure_optimizers()[1].defaults["lr"] == pytest.approx(0.002)


def test_discriminator_takes_its_form_and_groups() -> None:
    method = ILSGAN(**TINY, discriminator_architecture="orig", group_size=2)
    assert method.discriminator.b16.skip is None
    assert method.discriminator.b4.group_size == 2
    assert method.score(torch.rand(5, 3, 16, 16)).shape == (5,)


def test_half_precision_is_of_the_kind_asked_for() -> None:
    method = ILSGAN(**TINY, low_precision_blocks=1, low_precision="bfloat16", conv_clamp=None)
    for network in (method.generator.synthesis_background, method.discriminator):
        assert (network.low_precision, network.low_resolutions) == ("bfloat16", {16})


def test_it_draws_layers_and_cannot_segment() -> None:
    method = ILSGAN(**TINY).eval()
    assert isinstance(method, LayerGenerator)
    assert not isinstance(method, Segmenter | Decomposer)
    layers = method.sample(3, generator=torch.Generator().manual_seed(0), truncation=0.5)
    assert layers.color.shape == (3, 2, 3, 16, 16)
    assert_close(layers.alpha.sum(dim=1), torch.ones(3, 1, 16, 16))


@pytest.mark.parametrize("count", [1, 3, 5, 11])
def test_any_number_of_pictures_is_scored(count: int) -> None:
    assert ILSGAN(**TINY).score(torch.rand(count, 3, 16, 16)).shape == (count,)


def test_learned_densities_belong_to_the_second_optimiser() -> None:
    method = ILSGAN(**TINY, independence=Independence("learned_normal"))
    assert len(method.densities) == 2
    groups = method.configure_optimizers()[1].param_groups
    owned = {id(p) for p in groups[0]["params"]}
    assert owned >= {id(p) for p in method.densities.parameters()}


def test_gradients_are_mended_and_counted() -> None:
    weight = nn.Parameter(torch.ones(4))
    cleaner = GradientCleaner()
    (weight * torch.tensor([1.0, torch.nan, torch.inf, -torch.inf])).sum().backward()
    assert weight.grad is not None
    cleaner([weight.grad])
    assert weight.grad.tolist() == [1.0, 0.0, 1e5, -1e5]
    assert cleaner.count == 3


def _reconstruct_persistent_obj(meta: Any) -> Any:
    raise AssertionError("run while pickling")


class Stored:
    """Pickled as the authors' modules are."""

    def __init__(self, module: nn.Module) -> None:
        buffers = dict(module._buffers)
        if "resample_filter" in buffers:
            buffers["resample_filter"] = fir_kernel()  # Ours has one dimension in some places.
        own = {"conv_clamp": module.clamp} if hasattr(module, "clamp") else {}
        own |= {"group_size": module.group_size} if hasattr(module, "group_size") else {}
        self.meta = {
            "type": "class", "version": 6, "module_src": "raise SystemExit", "class_name": "X",
            "state": own | {
                "_parameters": dict(module._parameters),
                "_buffers": buffers,
                "_modules": {k: Stored(m) for k, m in module._modules.items() if m is not None},
            },
        }  # fmt: skip

    def __reduce__(self) -> Any:
        return _reconstruct_persistent_obj, (self.meta,)


def write_snapshot(path: Path, monkeypatch: pytest.MonkeyPatch, **content: Any) -> None:
    module = ModuleType("torch_utils.persistence")
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    monkeypatch.setattr(_reconstruct_persistent_obj, "__module__", "torch_utils.persistence")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch_utils", ModuleType("torch_utils"))
        patch.setitem(sys.modules, "torch_utils.persistence", module)
        path.write_bytes(pickle.dumps(content))


def theirs(method: ILSGAN) -> dict[str, Any]:
    """Networks of `method` under the authors' names."""
    layered = nn.Module()
    for name, module in method.generator.named_children():
        layered.add_module(name.replace("background", "bg").replace("foreground", "fg"), module)
    networks = {"G": Stored(layered), "D": Stored(method.discriminator), "G_ema": Stored(layered)}
    if method.augmentation is not None:
        networks["augment_pipe"] = Stored(method.augmentation)
    return networks


def test_snapshot_is_read_and_nothing_in_it_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = ILSGAN(**TINY)
    options = {"share": np.float64(0.5)}  # Snapshots have such numbers beside the networks.
    write_snapshot(tmp_path / "s.pkl", monkeypatch, training_set_kwargs=options, **theirs(method))
    found = convert_checkpoint(tmp_path / "s.pkl")
    usual = {"conv_clamp": 256.0, "discriminator_architecture": "resnet", "group_size": 4}
    for name, value in found.options.items():
        assert {**TINY, **usual}[name] == value
    assert found.networks == ["discriminator", "generator", "ema"]
    state = method.state_dict()
    assert len(found.state_dict) > 100
    for key, tensor in found.state_dict.items():
        assert torch.equal(state[key], tensor), key


def test_snapshot_without_discriminator_has_no_critic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compose: Callable[..., DictConfig]
) -> None:
    networks = theirs(ILSGAN(**TINY))
    write_snapshot(tmp_path / "s.pkl", monkeypatch, G=networks["G"], G_ema=networks["G_ema"])
    file = tmp_path / "s.ckpt"
    options = ("method=ilsgan", f"weights={tmp_path}/s.pkl", f"output={file}")
    convert(compose(*options, config_name="convert"))
    with pytest.raises(UserError, match="from a file without the discriminator"):
        require_critic(load_method(file), str(file))


@pytest.mark.parametrize("augmented", [True, False])
def test_strength_of_augmentation_is_left_where_there_is_none(
    compose: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, augmented: bool,
) -> None:  # fmt: skip
    method = ILSGAN(**TINY, augmentation=AugmentPipe("bgc", 0.25), controller=AdaController())
    write_snapshot(tmp_path / "s.pkl", monkeypatch, **theirs(method))
    caplog.set_level(logging.INFO)
    data = "cub_drc" if augmented else "toy"  # Whose recipe has none.
    arguments = ["method=ilsgan", f"data={data}", "data.resolution=16",
                 f"weights={tmp_path}/s.pkl", f"output={tmp_path}/c.ckpt"]  # fmt: skip
    convert(compose(*arguments, config_name="convert"))
    state = read_checkpoint(tmp_path / "c.ckpt")["state_dict"]
    assert ("augmentation.p" in state) == augmented
    assert ("left out, as the method is built without: augmentation" in caplog.text) != augmented


@pytest.mark.parametrize("clamp", [None, 64.0])
def test_limit_of_activations_is_that_of_the_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clamp: float | None
) -> None:
    method = ILSGAN(**TINY, conv_clamp=clamp)
    write_snapshot(tmp_path / "s.pkl", monkeypatch, **theirs(method))
    assert convert_checkpoint(tmp_path / "s.pkl").options["conv_clamp"] == clamp


@pytest.mark.parametrize("architecture", ["resnet", "skip", "orig"])
def test_discriminator_is_that_of_the_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    architecture: DiscriminatorArchitecture,
) -> None:  # fmt: skip
    method = ILSGAN(**TINY, discriminator_architecture=architecture, group_size=2)
    write_snapshot(tmp_path / "s.pkl", monkeypatch, **theirs(method))
    options = convert_checkpoint(tmp_path / "s.pkl").options
    assert options["discriminator_architecture"] == architecture
    assert options["group_size"] == 2
    assert not caplog.records
    assert type(method)(**{**TINY, **options}).state_dict().keys() == method.state_dict().keys()
    # Where it is not told, one has to know it.
    del method.discriminator.b4.group_size
    write_snapshot(tmp_path / "s.pkl", monkeypatch, **theirs(method))
    assert "group_size" not in convert_checkpoint(tmp_path / "s.pkl").options
    assert "Type method.group_size=..." in caplog.text


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_snapshot_that_asks_for_more_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {**theirs(ILSGAN(**TINY)), "extra": Payload(tmp_path / "made")}
    write_snapshot(tmp_path / "s.pkl", monkeypatch, **content)
    with pytest.raises(CheckpointError, match="refused and nothing"):
        convert_checkpoint(tmp_path / "s.pkl")
    assert not (tmp_path / "made").exists()
    write_snapshot(tmp_path / "s.pkl", monkeypatch, other=1)
    with pytest.raises(CheckpointError, match="has none of G, D"):
        convert_checkpoint(tmp_path / "s.pkl")
