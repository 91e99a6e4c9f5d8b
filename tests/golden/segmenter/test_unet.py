"""One U-Net class with the authors' weights reproduces three papers' networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.testing import assert_close

from figureground.methods.segmenter.convert import Style, convert_network, name_table
from figureground.methods.segmenter.losses import binary_entropy
from figureground.nn.unet import UNet, unet_widths
from weights import fill_by_sines

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
Golden = Callable[[str], Path]


def fill_by_hash(network: nn.Module, table: dict[str, str], seed: int = 0) -> None:
    """The rule of golden/gan_segmenter/index.json."""
    state, mask = network.state_dict(), 2**32 - 1
    for number, key in enumerate(table):
        tensor = state[table[key]]
        if key.endswith("num_batches_tracked"):
            continue
        h = torch.arange(1, tensor.numel() + 1) * 2654435761 + number * 40503 + seed * 97
        h = h & mask
        h ^= h >> 16
        h = h * 2246822519 & mask
        h ^= h >> 13
        u = h.double() / 2**31 - 1
        if key.endswith("running_var"):
            u = 1 + 0.25 * u
        elif tensor.ndim > 1:
            u = u * (6 / tensor[0].numel()) ** 0.5
        elif tensor.ndim == 1 and key.endswith("weight"):
            u = 1 + 0.1 * u
        else:
            u = 0.1 * u
        tensor.copy_(u.view(tensor.shape))


def test_ilsgan_network_matches(golden: Golden) -> None:
    tensors = load_file(golden("ilsgan") / "eval_nets.safetensors")
    network = UNet()
    assert sum(p.numel() for p in network.parameters()) == 13_395_394
    fill_by_sines(network, name_table("ilsgan"))
    assert_close(network.eval()(tensors["in.x"]), tensors["unet64.eval_logits"], **CLOSE)
    logits = network.train()(tensors["in.x"])
    assert_close(logits, tensors["unet64.train_logits"], **CLOSE)
    loss = F.cross_entropy(logits, tensors["in.target"])
    assert loss.item() == pytest.approx(0.7036706805229187, rel=1e-5)
    loss.backward()
    first, head = network.encode[0].first.conv.weight.grad, network.head.weight.grad
    for found, key in ((first, "inc.conv1"), (head, "outc")):
        stored = tensors[f"unet64.grad.{key}.weight"]
        assert_close(found, stored, rtol=1e-4, atol=1e-4 * float(stored.abs().max()))


@pytest.mark.parametrize(("kind", "scale"), [("gaussian", "logvar"), ("laplace", "logb")])
def test_trunk_bears_the_heads_of_ilsgans_conditional_networks(
    golden: Golden, kind: str, scale: str
) -> None:
    tensors = load_file(golden("ilsgan") / "eval_nets.safetensors")

    def head(*last: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Conv2d(64, 64, 1), nn.ReLU(), nn.Conv2d(64, 3, 1), *last)

    network = nn.ModuleDict(
        {
            "trunk": UNet(num_outputs=0, widths=(64, 128, 256, 256, 256)),
            "out_p_mu": head(),
            f"out_p_{scale}": head(nn.Tanh()),
        }
    )
    assert sum(p.numel() for p in network.parameters()) == 6_323_014
    table = {
        key: f"trunk.{ours}"
        for key, ours in name_table("ilsgan").items()
        if not ours.startswith("head")
    }
    table |= {key: key for key in network.state_dict() if key.startswith("out_p")}
    fill_by_sines(network, table)
    features = network.eval()["trunk"](tensors["in.x"])
    for found, key in (("out_p_mu", "mu"), (f"out_p_{scale}", "logs")):
        assert_close(network[found](features), tensors[f"neural_{kind}.{key}"], **CLOSE)


def narrow_network(state: dict[str, Tensor], style: Style) -> UNet:
    upsampling = "nearest_conv" if style == "l2ic" else "bilinear_aligned"
    network = UNet(
        num_outputs=1 if style == "l2ic" else 2,
        widths=unet_widths(4, 4, upsampling),
        upsampling=upsampling,
    )
    found, converted = convert_network(state)
    assert found == style
    network.load_state_dict(converted)
    return network


def test_gan_segmenters_network_matches_at_even_and_odd_sizes(golden: Golden) -> None:
    folder = golden("gan_segmenter")
    tensors = load_file(folder / "unet.safetensors")
    before = load_file(folder / "unet_state_before.safetensors")
    network = narrow_network(before, "gan_segmenter").eval()
    assert_close(network(tensors["x"]), tensors["eval.logits"], **CLOSE)
    assert_close(network(tensors["x_odd"]), tensors["eval.logits_odd"], **CLOSE)


def test_gan_segmenters_training_step_matches(golden: Golden) -> None:
    folder = golden("gan_segmenter")
    tensors = load_file(folder / "unet.safetensors")
    before = load_file(folder / "unet_state_before.safetensors")
    network = narrow_network(before, "gan_segmenter").train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    logits = network(tensors["x"])
    assert_close(logits, tensors["train.logits"], **CLOSE)
    loss = F.cross_entropy(logits, tensors["target"].long())
    assert_close(loss, tensors["train.loss"], **CLOSE)
    loss.backward()
    optimizer.step()
    _, after = convert_network(load_file(folder / "unet_state_after.safetensors"))
    for key, found in network.state_dict().items():
        if key.endswith("conv.bias"):
            continue  # Before a batch norm: the gradient is rounding noise, Adam makes it a step.
        assert_close(found, after[key], rtol=1e-4, atol=2e-5, msg=lambda m, k=key: f"{k}: {m}")


def test_gan_segmenters_network_matches_at_full_width(golden: Golden) -> None:
    tensors = load_file(golden("gan_segmenter") / "unet_full.safetensors")
    network = UNet(widths=unet_widths(64, 4, "bilinear_aligned")).eval()
    fill_by_hash(network, name_table("gan_segmenter"))
    with torch.no_grad():
        assert_close(network(tensors["x"]), tensors["logits"], **CLOSE)


def test_l2ics_network_and_training_step_match(golden: Golden) -> None:
    folder = golden("l2ic")
    tensors = load_file(folder / "unet.io.safetensors")
    network = narrow_network(load_file(folder / "unet.weights.safetensors"), "l2ic")
    assert_close(network.eval()(tensors["x"]).sigmoid(), tensors["eval.mask"], **CLOSE)
    optimizer = torch.optim.Adam(network.train().parameters(), 2e-4, betas=(0.5, 0.999))
    logits = network(tensors["x"])
    assert_close(logits.sigmoid(), tensors["train.mask"], **CLOSE)
    loss = binary_entropy(logits[:, 0], tensors["target_mask"][:, 0])
    assert_close(loss, tensors["loss.binary_entropy_mean"], **CLOSE)
    loss.backward()
    table = name_table("l2ic")
    parameters = dict(network.named_parameters())
    norms = {
        k: parameters[ours].grad.norm().item() for k, ours in table.items() if ours in parameters
    }
    optimizer.step()
    for key, norm in norms.items():
        if table[key].endswith("conv.bias"):
            continue
        assert norm == pytest.approx(float(tensors[f"gradnorm.{key}"]), rel=1e-4, abs=1e-6), key
        total = parameters[table[key]].double().sum().item()
        assert total == pytest.approx(float(tensors[f"aftersum.{key}"]), rel=1e-3, abs=1e-3), key


def test_l2ics_network_has_the_published_size() -> None:
    network = UNet(
        num_outputs=1, widths=unet_widths(64, 4, "nearest_conv"), upsampling="nearest_conv"
    )
    assert sum(p.numel() for p in network.parameters()) == 34_527_041
