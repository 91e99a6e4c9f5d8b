"""Normalisation of weights and activations: spectral norm and condition-dependent instance norm.

`SpectralNorm` is Miyato et al. 2018; `ConditionalInstanceNorm` is the conditional norm of the
ReDO paper's region generators (instance norm with scale and shift computed from a latent).
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

SpectralNormOrder = Literal["left_first", "right_first"]
WeightedLayer = TypeVar("WeightedLayer", bound=nn.Conv2d | nn.Linear | nn.Embedding)

_NORM_EPS = 1e-12
_WARM_UP_ITERATIONS = 15


class SpectralNorm(nn.Module):
    """Divide a weight by its largest singular value, estimated by power iteration.

    One iteration runs in each train-mode forward; eval mode uses the stored vectors. Two published
    flavours differ in what is updated first, which changes train-mode outputs but not eval ones:
    `right_first` updates v then u from random vectors (the hook of PyTorch 1.0, the one behind the
    published ReDO figures); `left_first` updates u then v and warms up with 15 iterations.

    Args:
        weight: The weight to normalise, (out, ...); seen as a matrix (out, in * kernel area).
        order: Which singular vector a power iteration updates first.
    """

    def __init__(self, weight: Tensor, order: SpectralNormOrder = "right_first") -> None:
        super().__init__()
        self.order = order
        matrix = weight.detach().flatten(1)
        self.register_buffer("u", F.normalize(torch.randn_like(matrix[:, 0]), dim=0, eps=_NORM_EPS))
        self.register_buffer("v", F.normalize(torch.randn_like(matrix[0]), dim=0, eps=_NORM_EPS))
        self.u: Tensor
        self.v: Tensor
        if order == "left_first":
            for _ in range(_WARM_UP_ITERATIONS):
                self.u, self.v, _ = self._iterate(matrix, self.u, self.v)

    @torch.no_grad()
    def _iterate(self, matrix: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One power iteration: the new u and v, and u^T W v, which is the length of the later."""
        if self.order == "right_first":
            v = F.normalize(matrix.mT @ u, dim=0, eps=_NORM_EPS)
            product = matrix @ v
            u = F.normalize(product, dim=0, eps=_NORM_EPS)
        else:
            u = F.normalize(matrix @ v, dim=0, eps=_NORM_EPS)
            product = matrix.mT @ u
            v = F.normalize(product, dim=0, eps=_NORM_EPS)
        return u, v, torch.linalg.vector_norm(product)

    def forward(self, weight: Tensor) -> Tensor:
        """Return `weight` divided by the current estimate of its largest singular value."""
        # A half-precision estimate of sigma drifts, so autocast stays out of this.
        with torch.autocast(weight.device.type, enabled=False), torch.no_grad():
            # A channels-last kernel is a matrix without copying if its columns are reordered.
            is_permuted = weight.dim() == 4 and not weight.is_contiguous()
            order = (0, 2, 3, 1) if is_permuted else tuple(range(weight.dim()))
            matrix = weight.detach().permute(order).flatten(1)
            kernel = self.v.view(1, *weight.shape[1:])
            u, v = self.u.clone(), kernel.permute(order).flatten()
            if self.training:
                u, v, sigma = self._iterate(matrix, u, v)
                self.u.copy_(u)
                kernel.permute(order).copy_(v.view_as(kernel.permute(order)))
            else:
                sigma = torch.dot(u, matrix @ v)
        normalized: Tensor = _DivideBySigma.apply(weight, order, u, v, sigma)
        return normalized


class _DivideBySigma(torch.autograd.Function):
    """W / sigma with sigma = u^T W v, whose gradient is (G - <G, W> / sigma * u v^T) / sigma.

    What autograd makes of the division takes about six passes over the weights, this takes three.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, order: tuple[int, ...], u: Tensor, v: Tensor, sigma: Tensor
    ) -> Tensor:
        ctx.save_for_backward(weight, u, v, sigma)
        ctx.order = order
        return weight / sigma

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, u, v, sigma = ctx.saved_tensors
        order: tuple[int, ...] = ctx.order
        inverse = [order.index(axis) for axis in range(len(order))]
        shape = weight.permute(order).shape
        matrix = weight.permute(order).flatten(1)
        gradient = gradient.permute(order).reshape_as(matrix)
        if torch.is_grad_enabled():  # a second derivative is wanted, so sigma must have one too
            sigma = torch.dot(u, matrix @ v)
        share = torch.dot(gradient.flatten(), matrix.flatten()) / sigma
        gradient = torch.addr(gradient, share * u, v, alpha=-1) / sigma
        return gradient.view(shape).permute(inverse), None, None, None, None


def spectral_norm(module: WeightedLayer, order: SpectralNormOrder = "right_first") -> WeightedLayer:
    """Register `SpectralNorm` on `module.weight` and return the module."""
    # `unsafe` skips a trial forward, which would run a power iteration before training starts.
    parametrize.register_parametrization(
        module, "weight", SpectralNorm(module.weight, order), unsafe=True
    )
    return module


class ConditionalInstanceNorm(nn.Module):
    """Instance norm whose scale and shift are affine functions of a latent vector.

    CN(x) = IN(x) * gamma(z) + beta(z), with IN over the pixels of each sample and channel (biased
    variance, eps 1e-5, no running statistics) and gamma, beta one 1x1 convolution each.

    Args:
        num_channels: Channels C of the normalised map.
        latent_dim: Size D of the latent.
    """

    def __init__(self, num_channels: int, latent_dim: int) -> None:
        super().__init__()
        self.gamma = nn.Conv2d(latent_dim, num_channels, 1)
        self.beta = nn.Conv2d(latent_dim, num_channels, 1)

    def forward(self, features: Tensor, latent: Tensor) -> Tensor:
        """Normalise `features` (B, C, H, W) under `latent` (B, D)."""
        gamma, beta = (_apply_to_vectors(conv, latent) for conv in (self.gamma, self.beta))
        return torch.addcmul(beta, F.instance_norm(features), gamma)


def _apply_to_vectors(conv: nn.Conv2d, vectors: Tensor) -> Tensor:
    """Apply a 1x1 convolution to (B, D) vectors as a matrix product, many times cheaper."""
    return F.linear(vectors, conv.weight.flatten(1), conv.bias)[:, :, None, None]
