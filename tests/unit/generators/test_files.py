"""Files of weights of every kind: what is in them, whose they are, and what they may not do."""

from __future__ import annotations

import json
import pickle
import resource
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from crafted import Payload, dotted, empty, flip_a_byte_of_a_tensor, randomise, truncate
from safetensors.torch import save_file
from torch import nn

from containers import (
    DCGAN_OPTIONS,
    KINDS,
    PICKLES,
    Stored,
    Write,
    cips_state,
    dcgan_state,
    style_container,
    write_legacy,
    write_pickle,
    write_zip,
)
from figureground import load_generator
from figureground.core import released
from figureground.core.checkpoint import ConvertedWeights
from figureground.core.errors import CheckpointError, ConfigError
from figureground.core.released import collect_module, read_released
from figureground.generators.cips import CIPS
from figureground.generators.dcgan import DCGAN
from figureground.generators.stylegan2 import StyleGAN2
from figureground.generators.weights import families, read_weights, save_weights


@pytest.mark.parametrize("write", KINDS)
def test_every_kind_of_file_is_read_by_content(tmp_path: Path, write: Write) -> None:
    state = dcgan_state()
    path = tmp_path / "weights.bin"
    write(path, state)
    found = read_weights(DCGAN, path)
    assert found.options == DCGAN_OPTIONS
    assert all(torch.equal(found.state_dict[key], state[key]) for key in state)
    network = load_generator("dcgan_faces", path, **DCGAN_OPTIONS)
    assert torch.equal(network.state_dict()["main.0.weight"], state["main.0.weight"])


@pytest.mark.parametrize("key", ["netG_state_dict", "state_dict"])
def test_state_dicts_are_found_in_their_container(tmp_path: Path, key: str) -> None:
    write_zip(tmp_path / "a.pt", {"epoch": 3, key: dcgan_state()})
    assert read_weights(DCGAN, tmp_path / "a.pt").options == DCGAN_OPTIONS


@pytest.mark.parametrize("architecture", ["skip", "res"])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_cips_is_read_with_its_widths(tmp_path: Path, architecture: str, multiplier: int) -> None:
    options = {"resolution": 64, "latent_dim": 4, "width": 3, "channel_max": 5,
               "channel_multiplier": multiplier, "architecture": architecture}  # fmt: skip
    write_zip(tmp_path / "a.pt", {"g_ema": cips_state(**options)})
    found = read_weights(CIPS, tmp_path / "a.pt")
    assert found.options == {**options, "mapping_depth": 8}
    expected = CIPS(**options).state_dict()
    assert {key: tensor.shape for key, tensor in found.state_dict.items()} == {
        key: tensor.shape for key, tensor in expected.items()
    }


def test_other_families_and_widths_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    write_zip(path, dcgan_state())
    with pytest.raises(CheckpointError, match=r"not a file of CIPS: it looks like DCGAN with"):
        load_generator("cips_churches", path, resolution=16, width=2)
    with pytest.raises(CheckpointError, match=r"width=2.*not one with width=3; set width=2"):
        load_generator("dcgan_faces", path, **{**DCGAN_OPTIONS, "width": 3})
    write_zip(path, cips_state(resolution=16, latent_dim=4, width=3, channel_max=5))
    with pytest.raises(CheckpointError, match="looks like CIPS with resolution=16, latent_dim=4"):
        read_weights(StyleGAN2, path)
    write_zip(path, {"something": torch.zeros(3)})
    with pytest.raises(CheckpointError, match=r"not a file of DCGAN: it has no transposed"):
        read_weights(DCGAN, path)
    state = dcgan_state()
    del state["main.1.bias"]
    write_zip(path, state)
    with pytest.raises(CheckpointError, match=r"main\.1\.bias is missing\. It holds DCGAN"):
        load_generator("dcgan_faces", path, **DCGAN_OPTIONS)


@pytest.mark.parametrize("family", list(families()), ids=lambda family: family.__name__)
def test_no_family_takes_what_is_not_its_own(family: type, tmp_path: Path) -> None:
    for content in ({}, {"a": torch.zeros(2)}, [1], "text", None, {"state_dict": 3}, {1: {}}):
        write_zip(tmp_path / "w.pt", content)  # type: ignore[arg-type]
        with pytest.raises(CheckpointError, match=r"is not a file of") as caught:
            read_weights(family, tmp_path / "w.pt")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere.pt", "a\0b", "x" * 5000, "."])
def test_f55_missing_weights_name_project_and_file(name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"weights\.tar of the project gan-face-generate"
    ) as caught:
        load_generator("dcgan_faces", name)
    assert "Nothing is downloaded" in str(caught.value)
    assert len(str(caught.value)) < 700
    with pytest.raises(CheckpointError, match="is not a file"):
        read_released(name)


@pytest.mark.parametrize("write", PICKLES)
def test_f51_payloads_are_refused_and_not_run(tmp_path: Path, write: Write) -> None:
    target, path = tmp_path / "created", tmp_path / "crafted.bin"
    for content in (
        {**dcgan_state(), "extra": Payload(target)},
        {"state_dict": dcgan_state(), "config": {"deep": [Payload(target)]}},
    ):
        write(path, content)
        with pytest.raises(CheckpointError, match=r"refused and nothing in it was run") as caught:
            read_weights(DCGAN, path)
        assert "posix.mkdir" in str(caught.value)
        assert caught.value.exit_code == 2
        assert not target.exists()


@pytest.mark.parametrize(
    "option",
    [
        {"_target_": "os.mkdir", "_args_": ["created"]},
        {"resolution": {"_target_": "os.mkdir", "_args_": ["created"]}},
        {"_args_": [1]},
        {"weights": "/etc/hostname"},
        {"nonsense": 1},
    ],
)
def test_f52_files_of_our_own_name_no_other_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "ours.safetensors"
    found = ConvertedWeights({**DCGAN_OPTIONS, **option}, dcgan_state(), [])
    save_weights(DCGAN, found, path, "weights.tar")
    for load in (load_generator, lambda file: read_weights(DCGAN, file)):
        with pytest.raises(CheckpointError, match="option"):
            load(path)
    assert not (tmp_path / "created").exists()


@pytest.mark.parametrize("change", [{"format": 9}, {"family": "os.system"}, {"options": 3}, None])
def test_f52_headers_of_our_own_are_checked(tmp_path: Path, change: dict[str, Any] | None) -> None:
    path = tmp_path / "ours.safetensors"
    facts = {"format": 1, "family": "dcgan.DCGAN", "options": DCGAN_OPTIONS, "sha256": "0"}
    text = "no json" if change is None else json.dumps({**facts, **change})
    save_file(dcgan_state(), path, {"figureground_generator": text})
    for load in (load_generator, lambda file: read_weights(DCGAN, file)):
        with pytest.raises(CheckpointError, match=r"convert|not known|holds weights of"):
            load(path)


@pytest.mark.usefixtures("persistence")
def test_containers_give_weights_and_what_only_options_tell(tmp_path: Path) -> None:
    write_pickle(tmp_path / "n.pkl", style_container())
    found = read_weights(StyleGAN2, tmp_path / "n.pkl")
    assert found.options["conv_clamp"] == 3.0
    more = {"resolution": 16, "latent_dim": 6, "style_dim": 5, "channel_base": 64, "channel_max": 4}
    network = load_generator("stylegan2_ffhq", tmp_path / "n.pkl", **more)
    assert network.network.synthesis.b16.conv1.clamp == 3.0  # type: ignore[union-attr]
    with pytest.raises(CheckpointError, match=r"set conv_clamp=3\.0"):
        load_generator("stylegan2_ffhq", tmp_path / "n.pkl", **more, conv_clamp=256)


@pytest.mark.usefixtures("persistence")
def test_f53_source_text_of_a_container_is_never_run(tmp_path: Path) -> None:
    source = f"import os\nos.mkdir({str(tmp_path / 'created')!r})"
    module = Stored(nn.Linear(2, 2), source)
    write_pickle(tmp_path / "n.pkl", {"G_ema": module})
    state = collect_module(read_released(tmp_path / "n.pkl")["G_ema"])
    assert set(state) == {"weight", "bias"}
    assert not (tmp_path / "created").exists()


class Restored(Payload):
    """Asks for its class, then hands it a state."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Restored, (self.path,), {"path": self.path}

    def __setstate__(self, state: Any) -> None:
        self.path.mkdir()


@pytest.mark.usefixtures("persistence")
@pytest.mark.parametrize(
    "content",
    [
        lambda made: pickle.dumps(style_container(extra=Payload(made))),
        lambda made: pickle.dumps({"G_ema": Restored(made)}),
        lambda made: dotted("torch.storage", "_load_from_bytes.__globals__", str(made)),
        lambda made: dotted("torch_utils.persistence", "os.mkdir", str(made)),
        lambda made: dotted("dnnlib.util", "EasyDict.__init__.__globals__", str(made)),
        lambda made: dotted("collections", "OrderedDict.fromkeys", str(made)),
        lambda made: dotted("builtins", "eval", f"__import__('os').mkdir({str(made)!r})"),
        lambda made: dotted("builtins", "getattr", str(made)),
        lambda made: dotted("dnnlib.tflib.network", "Network", str(made)),
        lambda made: b"\x80\x02cos\nmkdir\n" + b"V" + str(made).encode() + b"\n\x85R.",
        lambda made: b"\x80\x02(V" + str(made).encode() + b"\nios\nmkdir\n.",
        lambda made: b"\x80\x02Q.",
        lambda made: b"\x80\x02]r\xff\xff\xff\xff.",
        lambda made: b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".",
        lambda made: b"\x80\x04\x8e" + struct.pack("<Q", 10**12) + b".",
    ],
)
def test_f53_pickles_that_ask_for_more_are_refused(
    tmp_path: Path, content: Callable[[Path], bytes]
) -> None:
    path, made = tmp_path / "n.pkl", tmp_path / "made"
    path.write_bytes(content(made))
    with pytest.raises(CheckpointError) as caught:
        read_weights(StyleGAN2, path)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert not made.exists()


def test_f53_names_in_messages_are_short_and_plain(tmp_path: Path) -> None:
    module, name = "os\x1b[2J", "x" * 10_000
    path = tmp_path / "n.pkl"
    path.write_bytes(b"\x80\x02c" + f"{module}\n{name}\n.".encode())
    with pytest.raises(CheckpointError, match=r"os\[2J\.xx") as caught:
        read_released(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_f53_modules_that_hold_themselves_or_nothing_are_refused(tmp_path: Path) -> None:
    round_: dict[str, Any] = {"state": {"_parameters": {}, "_buffers": {}, "_modules": {}}}
    round_["state"]["_modules"]["me"] = round_
    for module in (round_, {"state": {}}, {"state": {"_parameters": 3}}, {"state": None}):
        write_pickle(tmp_path / "n.pkl", {"G_ema": module})
        with pytest.raises(CheckpointError, match="not a stored network"):
            read_weights(StyleGAN2, tmp_path / "n.pkl")


def test_f54_archives_that_are_bombs_or_programs_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(released, "_MOST_UNPACKED", 2**20)
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", bytes(2**21))
    with pytest.raises(CheckpointError, match="claims to unpack to 2097152 bytes"):
        read_released(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/code/__torch__.py", "x")
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_released(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../escaped", "x")
        archive.writestr("/escaped", "x")
    with pytest.raises(CheckpointError, match="refused"):
        read_released(path)
    assert not (tmp_path.parent / "escaped").exists()


@pytest.mark.parametrize("write", PICKLES)
def test_f57_tensors_larger_than_the_file_are_refused(tmp_path: Path, write: Write) -> None:
    huge = torch.zeros(1).expand(10**6, 10**6)
    write(tmp_path / "w.bin", {"netG": {"main.0.weight": huge}})
    with pytest.raises(CheckpointError, match="claims 1000000000000 elements"):
        read_weights(DCGAN, tmp_path / "w.bin")


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (3, 3), (3, 1)), (0, (10**4, 10**4), (10**4, 1)), (2, (1,), (1,)), (0, (2,), (-1,))],
)
def test_f57_tensors_beyond_their_storage_are_refused_in_pickles(
    tmp_path: Path, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    class Claim:
        def __reduce__(self) -> Any:
            storage = torch.zeros(2)._typed_storage()
            return torch._utils._rebuild_tensor_v2, (storage, offset, size, stride, False, {})

    write_pickle(tmp_path / "n.pkl", {"G_ema": Claim()})
    with pytest.raises(CheckpointError, match="elements that are not stored"):
        read_released(tmp_path / "n.pkl")


def test_f57_archives_inside_pickles_are_refused(tmp_path: Path) -> None:
    inner = tmp_path / "inner.pth"
    torch.save(torch.zeros(4)._typed_storage(), inner)

    class Load:
        def __reduce__(self) -> Any:
            return torch.storage._load_from_bytes, (inner.read_bytes(),)

    write_pickle(tmp_path / "n.pkl", {"x": Load(), "far": bytes(2**17)})
    with pytest.raises(CheckpointError, match="a storage is not as PyTorch writes it"):
        read_released(tmp_path / "n.pkl")


def test_f57_archives_with_a_second_table_of_contents_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.pth"
    write_zip(path, dcgan_state())
    content = path.read_bytes()
    with_comment = content[:-2] + b"\x04\x00note"
    # PyTorch's own files have a record for more than 4 GB, which may stand elsewhere.
    elsewhere = content[:-42] + b"PK\x06\x07" + struct.pack("<LQL", 0, 7, 1) + content[-22:]
    with zipfile.ZipFile(path, "w") as archive:  # Others have none.
        archive.writestr("w/data.pkl", b"x")
    plain = path.read_bytes()
    released.require_no_bomb(path)
    start = struct.unpack("<L", plain[-6:-2])[0]
    hidden = plain[:-6] + struct.pack("<LH", start - 1, 0)  # Where PyTorch looks, and Python not.
    for changed in (with_comment, elsewhere, hidden, b"before" + content, b"before" + plain):
        path.write_bytes(changed)
        with pytest.raises(ValueError, match="table of contents is not at its end"):
            released.require_no_bomb(path)
    path.write_bytes(content)
    released.require_no_bomb(path)


@pytest.mark.parametrize(
    ("shape", "offsets"),
    [
        ([10**6, 10**6], [0, 4]),
        ([10**6, 10**6], [0, 4 * 10**12]),
        ([1], [-4, 0]),
        ([1], [4, 0]),
        ([-1], [0, 4]),
        ([2**63, 2**63], [0, 4]),
    ],
)
def test_f57_headers_that_lie_are_refused(
    tmp_path: Path, shape: list[int], offsets: list[int]
) -> None:
    entry = {"main.0.weight": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}
    header = json.dumps(entry).encode()
    path = tmp_path / "w.safetensors"
    for length in (len(header), 2**62):
        path.write_bytes(struct.pack("<Q", length) + header + bytes(4))
        with pytest.raises(CheckpointError, match="cannot be read as weights") as caught:
            read_weights(DCGAN, path)
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("width", [3, 20_000, 10**9])
def test_f57_options_of_our_own_files_allocate_nothing_that_is_not_there(
    tmp_path: Path, width: int
) -> None:
    found = ConvertedWeights({**DCGAN_OPTIONS, "width": width}, dcgan_state(), [])
    save_weights(DCGAN, found, tmp_path / "ours.safetensors", "weights.tar")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=f"holds.* DCGAN with .*width={width}") as caught:
        load_generator(tmp_path / "ours.safetensors")
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_numbers_of_numpy_beside_the_weights_are_read_as_nothing(
    tmp_path: Path, write: Write
) -> None:
    content = {"state_dict": dcgan_state(), "best_fid": np.float64(3), "steps": np.arange(3)}
    write(tmp_path / "w.pth", content)
    assert read_weights(DCGAN, tmp_path / "w.pth").options == DCGAN_OPTIONS
    write(tmp_path / "w.pth", {"state_dict": {**dcgan_state(), "main.0.weight": np.arange(3)}})
    with pytest.raises(CheckpointError, match="is not a file of DCGAN"):
        read_weights(DCGAN, tmp_path / "w.pth")


@pytest.mark.parametrize(
    "program", [b"cnumpy\nfoo\n]r\xff\xff\xff\xff.", b"cnumpy\nfoo\n0cos\nmkdir\n."]
)
def test_f53_what_is_read_as_nothing_opens_no_door(tmp_path: Path, program: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("w/data.pkl", b"\x80\x02" + program)
        archive.writestr("w/version", "3")
    with pytest.raises(CheckpointError, match=r"claims to hold 4294967295|asks for os\.mkdir"):
        read_weights(DCGAN, tmp_path / "w.pth")


@pytest.mark.parametrize("damage", [truncate, empty, randomise])
@pytest.mark.parametrize("write", KINDS)
def test_damaged_files_are_refused(
    tmp_path: Path, write: Write, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "w.bin"
    write(path, dcgan_state())
    damage(path)
    with pytest.raises(CheckpointError, match=r"w\.bin") as caught:
        read_weights(DCGAN, path)
    assert caught.value.exit_code == 2


def test_flipped_bytes_of_an_archive_are_found(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    write_zip(path, {"main.0.weight": torch.zeros(10_000)})
    flip_a_byte_of_a_tensor(path)
    with pytest.raises(CheckpointError, match="damaged in"):
        read_released(path)
