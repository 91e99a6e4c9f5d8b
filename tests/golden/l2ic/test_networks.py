"""Generator, discriminator and converter against the authors' networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.testing import assert_close

from figureground.cli.convert import convert
from figureground.cli.evaluate import evaluate
from figureground.cli.generate import generate
from figureground.core.checkpoint import load_method
from figureground.core.errors import CheckpointError
from figureground.data.pairs import LivePairs
from figureground.methods.l2ic import L2IC
from figureground.methods.l2ic.codes import Codes
from figureground.methods.l2ic.convert import (
    DISCRIMINATOR,
    GENERATOR,
    convert_checkpoint,
    convert_network,
)
from figureground.methods.l2ic.discriminator import ClusterDiscriminator
from figureground.methods.l2ic.generator import CompositionGenerator
from figureground.methods.l2ic.weights import Weights
from figureground.methods.segmenter.convert import name_table
from figureground.nn.unet import UNet, unet_widths

# Codes join the maps in another order of summation; 25 layers of random weights amplify it.
CLOSE = {"rtol": 1e-4, "atol": 2e-4}
Golden = Callable[[str], Path]
Compose = Callable[..., DictConfig]
_MASK = 2**32 - 1


def load_generator(path: Path) -> CompositionGenerator:
    found = convert_checkpoint(path)
    options = {k: v for k, v in found.options.items() if k != "architecture"}
    options["width"] = options.pop("generator_width")
    network = CompositionGenerator(options.pop("resolution"), **options)
    network.load_state_dict({k.partition(".")[2]: v for k, v in found.state_dict.items()})
    return network


def codes_of(stored: dict[str, Tensor]) -> Codes:
    return Codes(stored["z"], stored["c"].argmax(1), stored["b"].argmax(1), stored["z"][:, :0])


@pytest.mark.parametrize(
    ("data", "blocks", "side"),
    [("birds", [3, 1, 1], 128), ("flowers", [2, 1, 1], 128), ("fs100", [3, 1, 1], 64)],
)
@torch.no_grad()
def test_generator_matches(golden: Golden, data: str, blocks: list[int], side: int) -> None:
    folder = golden("l2ic")
    path = folder / f"gen_{data}.weights.safetensors"
    options = convert_checkpoint(path).options
    assert (options["num_blocks"], options["resolution"]) == (blocks, side)
    assert (options["num_categories"], options["num_backgrounds"], options["latent_dim"]) == (
        12, 12, 16,
    )  # fmt: skip
    network, stored = load_generator(path), load_file(folder / f"gen_{data}.io.safetensors")
    codes = codes_of(stored)
    for mode in ("eval", "train"):
        picture = network.train(mode == "train")(codes)
        parts = {
            "mask": picture.mask, "fg": picture.foreground, "bg": picture.background,
            "image": picture.composite,
        }  # fmt: skip
        for name, part in parts.items():
            assert_close(part[..., ::4, ::4], stored[f"{mode}.{name}.sub4"], **CLOSE)
            mean, std = part.double().mean(), part.double().std()
            assert_close(mean, stored[f"{mode}.{name}.mean"], rtol=1e-4, atol=1e-6)
            assert_close(std, stored[f"{mode}.{name}.std"], rtol=1e-4, atol=1e-6)
        if mode == "eval":
            assert_close(picture.composite[0], stored["eval.image.row0"], **CLOSE)
    prefix = "after_train."
    after = {k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)}
    assert after
    state = network.state_dict()
    for key, expected in convert_network(GENERATOR, after).items():
        assert_close(state[key], expected, **CLOSE)


@pytest.mark.parametrize(("data", "side"), [("dcs", 128), ("fs100", 64)])
@torch.no_grad()
def test_discriminator_matches(golden: Golden, data: str, side: int) -> None:
    folder = golden("l2ic")
    found = convert_checkpoint(folder / f"disc_{data}.weights.safetensors")
    stored = load_file(folder / f"disc_{data}.io.safetensors")
    assert found.options == {
        "resolution": side, "discriminator_width": 4, "num_categories": 12, "architecture": "l2ic",
    }  # fmt: skip
    network = ClusterDiscriminator(side, width=4, num_categories=12)
    network.load_state_dict({k.partition(".")[2]: v for k, v in found.state_dict.items()})
    for mode in ("eval", "train"):
        judgement = network.train(mode == "train")(stored["x"])
        assert_close(judgement.score.sigmoid()[:, None], stored[f"{mode}.rf"], **CLOSE)
        assert_close(judgement.info, stored[f"{mode}.info"], **CLOSE)
        assert_close(judgement.cluster, stored[f"{mode}.cluster"], **CLOSE)
        assert_close(network.centroids, stored[f"{mode}.class_emb"], **CLOSE)
        cosine = normalize(judgement.info, dim=1) @ normalize(network.centroids, dim=1).T
        assert_close(cosine / 0.1, stored[f"{mode}.class_dist"], rtol=1e-4, atol=1e-4)
        assert torch.equal(network.find_clusters(judgement.info), stored[f"{mode}.pred"])


# -- at the released width -------------------------------------------------------------------


def fill_by_rule(network: nn.Module, table: dict[str, str], gain: float) -> None:
    """The rule of golden/l2ic/README.md; `table`: the authors' keys, in order, -> ours."""
    state = network.state_dict()
    for number, (theirs, ours) in enumerate(table.items()):
        tensor = state[ours]
        if theirs.endswith("num_batches_tracked"):
            continue
        h = torch.arange(1, tensor.numel() + 1) * 2654435761 + (number + 1) * 1013904223 & _MASK
        h ^= h >> 16
        h = h * 2246822519 & _MASK
        h ^= h >> 13
        h = h * 3266489917 & _MASK
        h ^= h >> 16
        u = h.double() / 2**32 - 0.5
        if tensor.ndim >= 2:
            u = u * (12 * gain / tensor[0].numel()) ** 0.5
        elif theirs.endswith("running_var"):
            u = 1 + 0.5 * u
        elif theirs.endswith(("running_mean", "bias")):
            u = 0.2 * u
        else:
            u = 1 + 0.2 * u
        tensor.copy_(u.view(tensor.shape))


_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def norm(name: str) -> Iterator[str]:
    yield from (f"{name}.{key}" for key in _NORM)


def generator_keys(foreground: int, mask: int, background: int) -> Iterator[str]:
    yield "parent_stage.fc.0.weight"
    yield from norm("parent_stage.fc.1")
    for step in (1, 2, 3):
        yield f"parent_stage.upsample{step}.1.weight"
        yield from norm(f"parent_stage.upsample{step}.2")
    yield "jointConv.0.weight"
    yield from norm("jointConv.1")
    for stage, head, count in (
        ("second_stage", "second_mask", mask),
        ("colour_stage", "colour_image", foreground),
        ("colour_stag_inverse", "colour_image_inverse", background),
    ):
        yield f"{stage}.jointConv.0.weight"
        yield from norm(f"{stage}.jointConv.1")
        for step in (4, 5):
            yield f"{stage}.upsample{step}.1.weight"
            yield from norm(f"{stage}.upsample{step}.2")
        for block in range(count):
            for first, second in ((0, 1), (3, 4)):
                yield f"{stage}.residual.{block}.block.{first}.weight"
                yield from norm(f"{stage}.residual.{block}.block.{second}")
        yield f"{stage}.downsample_1.0.weight"
        yield from norm(f"{stage}.downsample_1.1")
        yield f"{head}.img.0.weight"


def discriminator_keys() -> Iterator[str]:
    yield "base.0.weight"
    for number in (2, 5, 8, 11, 14):
        yield f"base.{number}.weight"
        yield from norm(f"base.{number + 1}")
    yield "info_head.0.weight"
    yield from norm("info_head.1")
    yield from ("info_head.3.weight", "info_head.3.bias", "cluster_projector.0.weight")
    for name in ("mlp.0", "mlp.2", "rf_head.0", "centroids"):
        yield from (f"{name}.weight", f"{name}.bias")


def rename(table: object, keys: Iterator[str]) -> dict[str, str]:
    names = {key: torch.empty(0) for key in keys}
    return dict(zip(names, convert_network(table, names), strict=True))


@pytest.mark.slow
@torch.no_grad()
def test_networks_of_the_released_width_match(golden: Golden) -> None:
    stored = load_file(golden("l2ic") / "full_width.safetensors")
    generator = CompositionGenerator(128, num_categories=600, num_backgrounds=600).eval()
    table = rename(GENERATOR, generator_keys(3, 1, 1))
    fill_by_rule(generator, table, 2.0)
    for key in ("parent_stage.fc.0.weight", "colour_image.img.0.weight"):
        first = generator.state_dict()[table[key]].flatten()[:8]
        assert_close(first, stored[f"check.{key}.first8"], rtol=1e-6, atol=1e-7)
    z = stored["G.z"]
    picture = generator(Codes(z, stored["G.c_index"], stored["G.b_index"], z[:, :0]))
    parts = {
        "mask": picture.mask, "fg": picture.foreground, "bg": picture.background,
        "image": picture.composite,
    }  # fmt: skip
    for name, part in parts.items():
        assert_close(part[..., ::8, ::8], stored[f"G.{name}.sub"], **CLOSE)
        assert_close(part.double().mean(), stored[f"G.{name}.mean"], rtol=1e-4, atol=1e-6)
    discriminator = ClusterDiscriminator(128, num_categories=600).eval()
    fill_by_rule(discriminator, rename(DISCRIMINATOR, discriminator_keys()), 2.0)
    judgement = discriminator(picture.composite)
    assert_close(judgement.score.sigmoid()[:, None], stored["D.rf"], **CLOSE)
    assert_close(judgement.info, stored["D.info"], rtol=1e-4, atol=1e-4)
    assert_close(judgement.cluster, stored["D.cluster"], **CLOSE)
    centroids = discriminator.centroids[::37, ::17]
    assert_close(centroids, stored["D.class_emb.sub"], **CLOSE)
    network = UNet(
        num_outputs=1, widths=unet_widths(64, 4, "nearest_conv"), upsampling="nearest_conv"
    ).eval()
    fill_by_rule(network, name_table("l2ic"), 1.4)
    mask = network(picture.composite).sigmoid()
    assert_close(mask[..., ::8, ::8], stored["U.mask.sub"], **CLOSE)


@pytest.mark.parametrize(
    ("options", "side", "count"),
    [
        ({"num_categories": 600, "num_backgrounds": 600}, 128, 8_637_488),
        ({"num_categories": 588, "num_backgrounds": 588}, 128, 8_596_016),
        ({"num_categories": 360, "num_backgrounds": 360}, 128, 7_808_048),
        ({"num_categories": 306, "num_backgrounds": 306, "num_blocks": (2, 1, 1)}, 128, 7_510_448),
        ({"num_categories": 306, "num_backgrounds": 306, "num_blocks": (1, 2, 1)}, 128, 7_510_448),
        ({"num_categories": 60, "num_backgrounds": 60}, 128, 6_771_248),
        ({"num_categories": 300, "num_backgrounds": 300}, 64, 7_378_736),
    ],
)
def test_generators_have_the_published_sizes(
    options: dict[str, object], side: int, count: int
) -> None:
    with torch.device("meta"):
        network = CompositionGenerator(side, **options)
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize(
    ("categories", "side", "count"),
    [(600, 128, 19_113_817), (588, 128, 19_101_517), (360, 128, 18_867_817),
     (306, 128, 18_812_467), (60, 128, 18_560_317), (300, 64, 14_610_989)],
)  # fmt: skip
def test_discriminators_have_the_published_sizes(categories: int, side: int, count: int) -> None:
    with torch.device("meta"):
        network = ClusterDiscriminator(side, num_categories=categories)
    assert sum(p.numel() for p in network.parameters()) == count


# -- files -----------------------------------------------------------------------------------


def test_files_of_a_wrapper_and_their_folder_are_read(golden: Golden, tmp_path: Path) -> None:
    for theirs, ours in (("netG", "gen_birds"), ("netD", "disc_dcs")):
        state = load_file(golden("l2ic") / f"{ours}.weights.safetensors")
        torch.save({f"module.{key}": v for key, v in state.items()}, tmp_path / f"{theirs}.pth")
    found = convert_checkpoint(tmp_path)
    assert found.networks == ["discriminator", "generator"]
    assert found.options["architecture"] == "l2ic"
    assert (found.options["generator_width"], found.options["discriminator_width"]) == (8, 4)


@pytest.mark.parametrize(
    ("paper", "files"),
    [("l2ic", ("gen_birds", "disc_dcs")), ("l2ic", ("gen_fs100", "disc_fs100")),
     ("c3gan", ("c3_gen", "c3_disc"))],
)  # fmt: skip
def test_converted_networks_are_those_of_the_method(
    golden: Golden, tmp_path: Path, paper: str, files: tuple[str, str]
) -> None:
    generator, judge = (load_file(golden("l2ic") / f"{name}.weights.safetensors") for name in files)
    torch.save({"netG": generator, "netD": judge}, tmp_path / "model.pth")
    found = convert_checkpoint(tmp_path / "model.pth")
    assert found.options["architecture"] == paper
    weights = Weights(swap=0, cluster_head=0)
    method = L2IC(batch_size=4, weights=weights, **found.options)
    missing, unexpected = method.load_state_dict(found.state_dict, strict=False)
    assert not unexpected
    assert not [key for key in missing if key.startswith(("generator", "discriminator"))]
    assert method.eval().sample(2).composite.shape[-1] == found.options["resolution"]


def test_files_tell_their_blocks_and_how_many_codes_they_have(tmp_path: Path) -> None:
    blocks = (1, 2, 0)
    options = {"latent_dim": 5, "num_categories": 6, "num_backgrounds": 3, "num_blocks": blocks}
    network = CompositionGenerator(128, width=8, **options)
    state = network.state_dict()
    names = rename(GENERATOR, generator_keys(*blocks))
    assert set(names.values()) == set(state)
    theirs = {f"module.{key}": state[ours] for key, ours in names.items()}
    torch.save(theirs, tmp_path / "netG.pth")
    found = convert_checkpoint(tmp_path)
    assert found.options == {
        **options, "num_blocks": [*blocks], "resolution": 128, "generator_width": 8,
        "architecture": "l2ic",
    }  # fmt: skip
    method = L2IC(batch_size=4, discriminator_width=4, **found.options)
    method.load_state_dict(found.state_dict, strict=False)
    for key, tensor in method.generator.state_dict().items():
        assert torch.equal(tensor, state[key])
    codes = method.draw_codes(50)
    assert torch.equal(codes.background, codes.category // 2)


def convert_golden(
    golden: Golden, compose: Compose, folder: Path, *names: str, options: Sequence[str] = ()
) -> Path:
    """Convert some of netG and netD of faces, with keys of a data-parallel wrapper."""
    files = {"netG": "gen_fs100", "netD": "disc_fs100"}
    folder.mkdir()
    for name in names:
        state = load_file(golden("l2ic") / f"{files[name]}.weights.safetensors")
        torch.save({f"module.{key}": v for key, v in state.items()}, folder / f"{name}.pth")
    given = ["method=l2ic", "data=fs100", f"weights={folder}", f"output={folder}/made.ckpt"]
    sizes = [f"method.{who}_width={n}" for who, n in (("generator", 8), ("discriminator", 4))]
    sizes += ["method.num_categories=12", "method.metrics.clustering.num_classes=12"]
    return convert(compose(*given, *sizes, *options, config_name="convert"))


def test_average_of_a_converted_generator_begins_at_its_weights(
    golden: Golden, compose: Compose, tmp_path: Path
) -> None:
    pictures = []
    for number, options in enumerate(([], ["method.ema_decay=0.9"])):
        path = convert_golden(
            golden, compose, tmp_path / str(number), "netG", "netD", options=options
        )
        method = load_method(path)
        assert isinstance(method, L2IC)
        assert (method.ema is None) == (not options)
        pictures.append(method.sample(2, generator=torch.Generator().manual_seed(0)).composite)
    assert torch.equal(*pictures)


def test_nothing_is_drawn_or_sorted_by_a_network_that_was_not_converted(
    golden: Golden, compose: Compose, tmp_path: Path
) -> None:
    judge = convert_golden(golden, compose, tmp_path / "judge", "netD")
    drawer = convert_golden(golden, compose, tmp_path / "drawer", "netG")
    assert LivePairs(str(drawer)).draw(1).color.shape[-1] == 64
    output = f"output={tmp_path}/out"
    with pytest.raises(CheckpointError, match=r"pairs\.ckpt=.* without the generator"):
        LivePairs(str(judge))
    with pytest.raises(CheckpointError, match="made.ckpt was .* without the generator"):
        generate(compose(f"ckpt={judge}", output, "count=2", config_name="generate"))
    options = (f"ckpt={drawer}", output, "transfer=x.png")
    with pytest.raises(CheckpointError, match="without the discriminator"):
        generate(compose(*options, config_name="generate"))
    options = (f"ckpt={drawer}", "data=toy", "trainer.accelerator=cpu")
    with pytest.raises(CheckpointError, match="without the discriminator"):
        evaluate(compose(*options, config_name="evaluate"))
    assert not (tmp_path / "out").exists()


def test_files_that_do_not_belong_together_are_refused(golden: Golden, tmp_path: Path) -> None:
    folder = golden("l2ic")
    torch.save(load_file(folder / "gen_birds.weights.safetensors"), tmp_path / "netG.pth")
    torch.save(load_file(folder / "disc_fs100.weights.safetensors"), tmp_path / "netD.pth")
    with pytest.raises(CheckpointError, match="resolution is 64 here and 128"):
        convert_checkpoint(tmp_path)


def test_other_files_are_refused(golden: Golden, tmp_path: Path) -> None:
    folder = golden("l2ic")
    with pytest.raises(CheckpointError, match="method=segmenter"):
        convert_checkpoint(folder / "unet.weights.safetensors")
    with pytest.raises(CheckpointError, match="no network of L2IC"):
        convert_checkpoint(folder / "metrics.safetensors")
    with pytest.raises(CheckpointError, match="neither"):
        convert_checkpoint(tmp_path)
    state = load_file(folder / "gen_birds.weights.safetensors")
    state["extra.weight"] = torch.zeros(1)
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(CheckpointError, match=r"unknown key extra\.weight"):
        convert_checkpoint(tmp_path / "odd.safetensors")
    del state["extra.weight"], state["parent_stage.fc.0.weight"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError, match="none of the keys"):
        convert_checkpoint(tmp_path / "part.safetensors")
