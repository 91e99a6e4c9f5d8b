"""ReDO beyond what golden data and contracts cover."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from figureground.core.errors import CheckpointError
from figureground.core.types import Batch
from figureground.methods.redo import ReDO
from figureground.methods.redo.convert import NETWORKS, TABLE, convert_checkpoint
from figureground.methods.redo.networks import Discriminator, MaskNetwork, RegionGenerators


def tiny(**options: object) -> ReDO:
    sizes: dict[str, object] = {
        "resolution": 32, "latent_dim": 4, "mask_width": 8, "mask_blocks": 1,
        "generator_width": 4, "discriminator_width": 4, "encoder_width": 4,
    }  # fmt: skip
    return ReDO(**{**sizes, **options})  # type: ignore[arg-type]  # as given


@pytest.mark.parametrize("resolution", [32, 64, 256])
def test_networks_take_any_power_of_two(resolution: int) -> None:
    masks = MaskNetwork(resolution=resolution, width=8, num_blocks=1)(
        torch.randn(1, 3, resolution, resolution)
    )
    assert masks.shape == (1, 2, resolution, resolution)
    generators = RegionGenerators(resolution=resolution, latent_dim=4, width=2, use_attention=True)
    assert generators(masks, torch.randn(1, 2, 4)).shape == (1, 2, 3, resolution, resolution)
    discriminator = Discriminator(resolution=resolution, width=2, use_attention=True)
    assert discriminator(torch.randn(2, 3, resolution, resolution)).shape == (2,)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_masks_of_any_number_of_regions_sum_to_one(count: int) -> None:
    masks = MaskNetwork(resolution=24, num_regions=count, width=8)(torch.randn(2, 3, 24, 24))
    torch.testing.assert_close(masks.sum(1), torch.ones(2, 24, 24))


def test_bad_resolutions_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        MaskNetwork(resolution=30)
    with pytest.raises(ValueError, match="power of two"):
        Discriminator(resolution=48)
    with pytest.raises(ValueError, match="at least 2"):
        tiny(num_regions=1)


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_attention_needs_a_width_of_two(network: str) -> None:
    options = {f"{network}_width": 1, f"{network}_attention": True}
    with pytest.raises(ValueError, match=f"{network}_attention needs {network}_width=2 at least"):
        tiny(**options)
    assert tiny(**{**options, f"{network}_width": 2})
    assert tiny(**{**options, f"{network}_attention": False})


@pytest.mark.parametrize("redraw", ["all", "sampled"])
@pytest.mark.parametrize("latent_from", ["composite", "redrawn"])
def test_every_form_gives_gradients_to_all_players(redraw: str, latent_from: str) -> None:
    method = tiny(redraw=redraw, latent_from=latent_from)
    image, latent = torch.rand(3, 3, 32, 32) * 2 - 1, torch.randn(3, 2, 4)
    masks, paints, redrawn, region = method._draw(image, latent)
    assert len(redrawn) == (6 if redraw == "all" else 3)
    error = method._latent_error(paints, redrawn, latent, region)
    error.backward()
    assert error > 0
    assert method.mask_net.head.weight.grad is not None
    assert masks.shape == (3, 2, 32, 32)


def test_redrawn_picture_keeps_the_rest() -> None:
    method = tiny().eval()
    image, latent = torch.rand(2, 3, 32, 32), torch.randn(2, 2, 4)
    redrawn, masks = method.redraw(image, latent), method.segment(image)
    untouched = masks[:, :, None] < 1e-3
    for k in range(2):
        same = untouched[:, k].expand(-1, 3, -1, -1)
        torch.testing.assert_close(redrawn[:, k][same], image[same], atol=5e-3, rtol=0)


def test_background_comes_first_everywhere() -> None:
    method = tiny().eval()
    image, latent = torch.rand(2, 3, 32, 32), torch.randn(2, 2, 4)
    plain = (method.segment(image), method.redraw(image, latent), method.recover_latent(image))
    method.statistics.border_share[1] = 1
    swapped = (
        method.segment(image), method.redraw(image, latent.flip(1)), method.recover_latent(image),
    )  # fmt: skip
    for one, two in zip(plain, swapped, strict=True):
        torch.testing.assert_close(one, two.flip(1))


def test_without_latents_there_is_no_encoder() -> None:
    method = tiny(latent_weight=0)
    assert len(method.configure_optimizers()) == 3
    assert not any(key.startswith("encoder") for key in method.state_dict())
    with pytest.raises(ValueError, match="no encoder"):
        method.recover_latent(torch.rand(1, 3, 32, 32))


def test_segment_takes_pictures_of_any_kind(tmp_path: Path) -> None:
    method = tiny().eval()
    pixels = np.random.default_rng(0).integers(0, 255, (30, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    results = [
        method.segment(picture)
        for picture in (
            pixels,
            Image.fromarray(pixels),
            tmp_path / "p.png",
            str(tmp_path / "p.png"),
        )
    ]
    for result in results:
        assert result.shape == (1, 2, 30, 50)
        assert torch.equal(result, results[0])
    with pytest.raises(ValueError, match="expected uint8"):
        method.segment(pixels.astype(np.float32))


def test_pictures_at_full_resolution_are_stretched_to_be_scored() -> None:
    method = tiny().eval()
    image = torch.rand(1, 3, 32, 48) * 2 - 1
    mask = torch.zeros(1, 60, 90, dtype=torch.long)
    found = method._segment_to_score(Batch(image, ("a",), mask))
    square = torch.nn.functional.interpolate(image, (32, 32), mode="bilinear", antialias=True)
    own = method.segment(square)
    wanted = torch.nn.functional.interpolate(own, (60, 90), mode="bilinear")
    torch.testing.assert_close(found, wanted)
    assert method._segment_to_score(Batch(image, ("a",))).shape == (1, 2, 32, 48)
    # Squares of its own size are left as they are, whatever the size of their masks.
    assert torch.equal(method._segment_to_score(Batch(square, ("a",), mask)), own)


def test_grids_show_an_empty_truth_as_black() -> None:
    method = tiny(num_regions=3).eval()
    batch = Batch(torch.rand(2, 3, 32, 32), ("a", "b"), torch.zeros(2, 32, 32, dtype=torch.long))
    grids = method.pictures(batch)
    assert set(grids) == {"redraw_background", "redraw_object1", "redraw_object2"}
    assert torch.all(grids["redraw_background"][1] == -1)


# -- conversion ------------------------------------------------------------------------------


def authors_file(method: ReDO, *names: str) -> dict[str, object]:
    """What the authors' script would have saved of `method`: the table, read backwards."""
    content: dict[str, object] = {
        "options": argparse.Namespace(nMasks=2, nz=4, temperature=1, wrecZ=5, dataset="flowers"),
        "optimizerEncM": {"state": {}, "param_groups": []},
    }
    for theirs, ours in NETWORKS.items():
        if not names or theirs in names:
            state = getattr(method, ours).state_dict()
            content[theirs] = {backwards(ours, key): value for key, value in state.items()}
    return content


def backwards(ours: str, key: str) -> str:
    from figureground.methods.redo import convert

    candidates = {
        "mask_net": [f"cnn.0.mods.{i}." for i in range(1, 9)]
        + [f"cnn.1.blocs.{i}." for i in range(4)]
        + ["cnn.1.activationF.0.", *(f"psp.{i}.1." for i in range(4))]
        + [f"out.mods.{i}." for i in (1, 2, 5, 6, 9)],
        "generators": [
            f"net.{k}.{part}."
            for k in (0, 1)
            for part in (
                "dense", "gammaOut", "betaOut", "convOut",
                *(f"convA.{j}.1" for j in range(3)), *(f"convB.{j}" for j in range(3)),
                *(f"sc.{j}.1" for j in range(3)),
                *(f"{w}{s}.{j}" for w in ("gamma", "beta") for s in "AB" for j in range(3)),
            )
        ],
        "discriminator": ["bloc0.0.", "bloc0.2.", "sc0.1.", "dense.", "blocs.4.1.", "blocs.4.3."]
        + [f"{p}.{i}.{j}." for i in range(2) for p, j in (("blocs", 1), ("blocs", 3), ("sc", 1))],
        "encoder": [f"net.{p}." for p in ("blocs.0.0", "blocs.0.2", "sc.0.1", "dense")]
        + ["net.blocs.5.1.", "net.blocs.5.3."]
        + [f"net.{p}.{i}.{j}." for i in (1, 2) for p, j in (("blocs", 1), ("blocs", 3), ("sc", 1))],
    }[ours]  # fmt: skip
    for prefix in candidates:
        for suffix in ("weight", "bias", "weight_orig", "weight_u", "weight_v"):
            if convert._rename(ours, prefix + suffix, "x") == key:
                return prefix + suffix
    raise AssertionError(key)


@pytest.mark.parametrize("legacy", [True, False])
def test_whole_file_round_trips(tmp_path: Path, legacy: bool) -> None:
    method = tiny()
    path = tmp_path / "nets.pth"
    torch.save(authors_file(method), path, _use_new_zipfile_serialization=not legacy)
    found = convert_checkpoint(path)
    assert found.networks == list(NETWORKS.values())
    assert found.options["mask_width"] == 8
    assert found.options["generator_width"] == 4
    assert found.options["latent_dim"] == 4
    assert not found.options["generator_attention"]
    for key, value in found.state_dict.items():
        assert torch.equal(value, method.state_dict()[key])


@pytest.mark.parametrize("name", list(NETWORKS))
def test_single_network_files_are_read(tmp_path: Path, name: str) -> None:
    torch.save(authors_file(tiny(), name), tmp_path / "net.pth")
    assert convert_checkpoint(tmp_path / "net.pth").networks == [NETWORKS[name]]


def test_missing_right_vectors_are_reconstructed(tmp_path: Path) -> None:
    method = tiny()
    image = torch.rand(2, 3, 32, 32)
    for _ in range(30):
        method.discriminator(image)
    content = authors_file(method, "netDX")
    state = dict(content["netDX"])  # type: ignore[call-overload]  # a dict of tensors
    for key in [key for key in state if key.endswith("weight_v")]:
        stem = key.removesuffix("_v")
        matrix = state[f"{stem}_orig"].flatten(1)
        sigma = torch.dot(state[f"{stem}_u"], matrix @ state[key])
        state[stem] = state[f"{stem}_orig"] / sigma
        del state[key]
    torch.save({"netDX": state}, tmp_path / "old.pth")
    found = convert_checkpoint(tmp_path / "old.pth").state_dict
    other = tiny()
    other.load_state_dict({**other.state_dict(), **found})
    torch.testing.assert_close(
        other.discriminator.eval()(image), method.discriminator.eval()(image), rtol=1e-3, atol=1e-4
    )


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("touched"),))  # type: ignore[return-value]  # runs if unpickled


@pytest.mark.parametrize("kind", ["payload", "text", "other", "unknown", "absent"])
def test_other_files_are_refused_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pth"
    if kind == "payload":
        path.write_bytes(pickle.dumps({"netEncM": Payload()}))
    elif kind == "text":
        path.write_text("hello")
    elif kind == "other":
        torch.save({"generator": {}}, path)
    elif kind == "unknown":
        torch.save({"netDX": {"strange.weight": torch.zeros(1)}}, path)
    with pytest.raises(CheckpointError) as caught:
        convert_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    "content",
    [
        {"netEncM": {}},
        {"netEncM": [1, 2]},
        {"netEncM": {"cnn.0.mods.1.weight": 3}},
        {"netDX": {"dense.weight": torch.zeros(1, 4)}},
        {"netDX": {"selfAtt.strange": torch.zeros(1)}},
        {"netGenX": {"net.0.dense.weight": torch.zeros(4)}},
        {
            "netRecZ": {
                "net.sc.0.1.weight_orig": torch.zeros(4),
                "net.sc.0.1.weight_u": torch.ones(3),
            }
        },
    ],
)
def test_broken_networks_are_refused_in_one_line(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"x\.pth: net\w+ is not") as caught:
        convert_checkpoint(tmp_path / "x.pth")
    assert "\n" not in str(caught.value)


def test_table_names_every_network() -> None:
    assert set(TABLE) == set(NETWORKS.values())
