"""Every container of every family: it loads, and whatever is done to it ends in one line."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from crafted import (
    CLAIMS,
    GREEDY,
    HOSTILE,
    Payload,
    empty,
    lie_in_header,
    randomise,
    truncate,
    write_bomb,
    write_legacy_program,
    write_program,
)

from containers import (
    CONTAINERS,
    SMALL,
    Container,
    dcgan_state,
    provide_persistence,
    write_legacy,
    write_own,
    write_pickle,
)
from figureground import load_generator
from figureground.core import released
from figureground.core.errors import CheckpointError, ConfigError, UserError
from figureground.generators.dcgan import DCGAN
from figureground.generators.weights import read_weights

pytestmark = pytest.mark.usefixtures("persistence")
NEW = [container for container in CONTAINERS if container.write is not write_legacy]
EVERY = pytest.mark.parametrize("container", CONTAINERS, ids=str)
EVERY_NEW = pytest.mark.parametrize("container", NEW, ids=str)  # Where all of the file is replaced.
OWN = pytest.mark.parametrize("family", SMALL, ids=lambda family: family.__name__)


def load(container: Container, path: Path) -> torch.nn.Module:
    return load_generator(container.choice, path, **SMALL[container.family])


def refuse(container: Container, path: Path, match: str = "Expected|not a stored") -> str:
    """The one line in which reading the file ends, with exit code 2."""
    with pytest.raises(CheckpointError, match=match) as caught:
        read_weights(container.family, path)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500
    return str(caught.value)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each container."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        provide_persistence(patch)
        for container in CONTAINERS:
            path = tmp_path_factory.mktemp("released") / container.file
            container.write(path, container.pack())
            found[str(container)] = path
    return found


@pytest.fixture
def written(container: Container, files: dict[str, Path], tmp_path: Path) -> Path:
    """A file of the container, to be spoiled."""
    return Path(shutil.copy(files[str(container)], tmp_path))


@EVERY
def test_container_loads(container: Container, written: Path) -> None:
    network: Any = load(container, written)
    assert network(network.latent(2)).shape == (2, 3, network.resolution, network.resolution)


@EVERY
def test_f51_damaged_containers_are_refused(container: Container, written: Path) -> None:
    for damage in (truncate, randomise, empty):
        damage(written)
        refuse(container, written, re.escape(container.file))
    with pytest.raises(UserError, match=re.escape(container.file)) as caught:
        load(container, written)  # Empty now.
    assert caught.value.exit_code == 2


@EVERY
def test_f51_f53_programs_in_containers_are_refused_and_not_run(
    container: Container, written: Path, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    packed = container.pack()
    state = next((k for k, v in packed.items() if isinstance(v, dict)), None)
    hostile: list[dict[str, Any]] = [{**packed, "more": Payload(made)}, {"G_ema": Payload(made)}]
    if state is not None:
        hostile.append({**packed, state: {**packed[state], "x": [Payload(made)]}})
    for content in hostile:
        container.write(written, content)
        assert "mkdir" in refuse(container, written, "refused and nothing in it was run")
    assert not made.exists()


@EVERY_NEW
def test_f53_names_beyond_weights_are_refused(
    container: Container, written: Path, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    for make in HOSTILE.values():
        program = make(made)
        for place in (Path.write_bytes, write_program, write_legacy_program):
            place(written, program)  # A bare pickle, and one in PyTorch's files.
            refuse(container, written, "refused and nothing in it was run")
    assert not made.exists()


@EVERY_NEW
def test_f54_file_of_another_family_is_named(container: Container, files: dict[str, Path]) -> None:
    for other in NEW:
        if other.family is not container.family:
            path, family = files[str(other)], other.family.card.family
            with pytest.raises(CheckpointError, match=f"looks like {family}") as caught:
                read_weights(container.family, path)
            assert caught.value.exit_code == 2
            assert "\n" not in str(caught.value)


@EVERY
def test_f54_file_of_another_width_says_which(container: Container, written: Path) -> None:
    options = SMALL[container.family]
    name = next(name for name in ("width", "channel_max") if name in options)
    with pytest.raises(CheckpointError, match=rf"set .*{name}=") as caught:
        load_generator(container.choice, written, **{**options, name: 2 * options[name]})
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@EVERY_NEW
def test_f54_archives_that_are_programs_or_escape_are_refused(
    container: Container, written: Path, tmp_path: Path
) -> None:
    for member in ("w/code/__torch__.py", "w/constants.pkl", "../../escaped", "/escaped"):
        with zipfile.ZipFile(written, "w") as archive:
            archive.writestr(member, "x")
        refuse(container, written, "refused and nothing in it was run")
    assert not (tmp_path.parent / "escaped").exists()


@EVERY_NEW
def test_f55_f56_odd_names_are_refused_and_nothing_is_fetched(container: Container) -> None:
    addresses = (f"https://example.org/{container.file}", "http://127.0.0.1:1/weights")
    for name in ("nowhere.pt", "a\0b", "x" * 5000, "/etc", *addresses):
        with pytest.raises(ConfigError, match=r"does not exist|holds no") as caught:
            load_generator(container.choice, name, **SMALL[container.family])
        assert caught.value.exit_code == 2
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1000
        assert name == "/etc" or "Nothing is downloaded" in str(caught.value)


@EVERY
def test_f57_claims_beyond_the_file_are_refused(container: Container, written: Path) -> None:
    packed = container.pack()
    huge = torch.zeros(1).expand(10**6, 10**6)
    if container.write is write_pickle:
        container.write(written, {"G_ema": {"huge": huge}})
    else:
        key = next((k for k, v in packed.items() if isinstance(v, dict)), None)
        content = packed if key is None else packed[key]
        content[next(iter(content))] = huge
        container.write(written, packed)
    refuse(container, written, "claims 1000000000000 elements")


@EVERY_NEW
def test_f57_bombs_and_claims_of_memory_are_refused(
    container: Container, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(released, "_MOST_UNPACKED", 2**20)
    write_bomb(written, 2**21)
    refuse(container, written, "claims to unpack to")
    for program in GREEDY:
        for place in (Path.write_bytes, write_program, write_legacy_program):
            place(written, program)
            refuse(container, written)


@EVERY_NEW
def test_f57_headers_that_lie_are_refused_whatever_the_file_is_called(
    container: Container, written: Path
) -> None:
    for shape, offsets in CLAIMS:
        for length in (None, 2**62):
            lie_in_header(written, shape, offsets, length)
            refuse(container, written, "refused and nothing in it was run")


@OWN
def test_f57_options_of_our_own_files_allocate_nothing(family: type, tmp_path: Path) -> None:
    path = write_own(family, tmp_path / "own.safetensors")
    assert load_generator(path).resolution == SMALL[family]["resolution"]
    for name, value in huge_options(family):
        write_own(family, path, **{name: value})
        with pytest.raises(UserError) as caught:
            load_generator(path)
        assert caught.value.exit_code == 2, name
        assert "\n" not in str(caught.value), name


def test_file_of_ours_may_lend_its_options_to_other_weights(tmp_path: Path) -> None:
    own = write_own(DCGAN, tmp_path / "own.safetensors")
    other = tmp_path / "weights.tar"
    write_legacy(other, {"netG_state_dict": dcgan_state()})
    assert load_generator(own, weights=other).options["weights"] == str(other)


def huge_options(family: type) -> Iterator[tuple[str, Any]]:
    """Options that ask for more than any memory, or for more than any time."""
    limits = ("channel_base", "channel_max")  # What is above them changes nothing.
    for name, value in SMALL[family].items():
        if isinstance(value, int) and name not in limits:
            yield from ((name, huge) for huge in (20_000, 10**9))
    if "shapes" in SMALL[family]:
        yield "shapes", [[True, 1, 1]] * 2 + [[False, 1, 1]] * 10_000
        yield "shapes", [[True, 10**9, 10**9]] * 2


@OWN
def test_f51_damaged_files_of_our_own_are_refused(family: type, tmp_path: Path) -> None:
    path = write_own(family, tmp_path / "own.safetensors")
    for damage in (truncate, randomise, empty):
        damage(path)
        with pytest.raises(CheckpointError, match=r"own\.safetensors") as caught:
            load_generator(path)
        assert caught.value.exit_code == 2
    write_own(family, path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="checksum differs"):
        load_generator(path)


@OWN
def test_f54_own_file_of_another_family_is_named(family: type, tmp_path: Path) -> None:
    path = write_own(family, tmp_path / "own.safetensors")
    for other in CONTAINERS:
        if other.family is not family:
            with pytest.raises(CheckpointError, match="it holds weights of") as caught:
                load(other, path)
            assert json.dumps(str(caught.value)).count("\\n") == 0
