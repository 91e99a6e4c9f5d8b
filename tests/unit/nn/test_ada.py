"""Augmentation: strengths, seeds, derivatives, filters, and the controller."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from figureground.losses.adversarial import r1_penalty
from figureground.nn.ada import AdaController, AugmentPipe
from figureground.nn.augment_matrices import Dice, geometry_matrix
from figureground.nn.grid_sample import grid_sample
from figureground.nn.wavelets import SYM2, SYM6, low_pass, octave_bank

OPERATIONS = [
    "xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac", "brightness", "contrast",
    "lumaflip", "hue", "saturation", "filter", "noise", "cutout",
]  # fmt: skip


def smooth(count: int = 4, side: int = 32) -> Tensor:
    """Pictures without high frequencies, which resampling must leave alone."""
    return F.interpolate(torch.rand(count, 3, 4, 4) * 2 - 1, side, mode="bicubic")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_changes_pictures(operation: str) -> None:
    pipe, image = AugmentPipe(operation, p=1.0), torch.randn(8, 3, 32, 32)
    assert pipe.operations == {operation}
    changed = pipe(image)
    assert changed.shape == image.shape
    assert not torch.allclose(changed, image, atol=0.05)


def test_no_strength_leaves_smooth_pictures() -> None:
    image = smooth()
    inner = (..., slice(4, -4), slice(4, -4))
    assert_close(AugmentPipe("bgcfnc")(image)[inner], image[inner], rtol=0, atol=0.01)
    assert_close(AugmentPipe(["color", "noise", "cutout"])(image), image)


def test_flips_and_quarter_turns_are_moves() -> None:
    image = smooth()
    inner = (..., slice(4, -4), slice(4, -4))
    for operation, moved in (("xflip", image.flip(3)), ("rotate90", image.rot90(3, (2, 3)))):
        found = AugmentPipe(operation)(image, percentile=0.99)  # The last of 2, and of 4.
        assert_close(found[inner], moved[inner], rtol=0, atol=0.05)


def test_presets_and_wrong_names() -> None:
    assert AugmentPipe("bgc").operations == set(OPERATIONS[:12])
    assert AugmentPipe("bgcfnc").operations == set(OPERATIONS)
    assert AugmentPipe(["blit", "noise"]).operations == {*OPERATIONS[:3], "noise"}
    with pytest.raises(ValueError, match="unknown augmentation blot"):
        AugmentPipe("blot")
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        AugmentPipe()(torch.zeros(2, 1, 8, 8))


def test_seeds_repeat() -> None:
    pipe, image = AugmentPipe("bgcfnc", p=0.7), torch.randn(4, 3, 32, 32)
    draws = [pipe(image, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.allclose(draws[0], draws[2])


def test_operations_happen_as_often_as_told() -> None:
    torch.manual_seed(1)
    for p, expected in ((0.0, 0.0), (0.3, 0.3), (1.0, 1.0), (1.5, 1.0)):
        gated = Dice(20_000, p).gate(torch.ones(20_000), 0.0)
        assert gated.mean().item() == pytest.approx(expected, abs=0.02)
    # Two rotations: at least one of them with probability p.
    matrices = geometry_matrix(Dice(20_000, 0.3), {"rotate"}, 8, 8)
    assert matrices is not None
    turned = (matrices - torch.eye(3)).abs().amax(dim=(1, 2)) > 0
    assert turned.float().mean().item() == pytest.approx(0.3, abs=0.02)


def test_pipe_is_differentiable_twice() -> None:
    pipe = AugmentPipe("bgcfnc", p=0.8).double()
    weight = torch.randn(3, 24, 24, dtype=torch.float64)
    image = torch.randn(2, 3, 24, 24, dtype=torch.float64, requires_grad=True)

    def score(x: Tensor) -> Tensor:
        changed = pipe(x, generator=torch.Generator().manual_seed(3))
        return (changed.square() * weight).sum(dim=(1, 2, 3))

    penalty = r1_penalty(score(image), image).sum()
    (second,) = torch.autograd.grad(penalty, image)
    step, direction = 1e-6, torch.randn_like(image)
    ends = [(image + sign * step * direction).detach().requires_grad_() for sign in (1, -1)]
    high, low = (r1_penalty(score(end), end).sum().item() for end in ends)
    assert (high - low) / (2 * step) == pytest.approx((second * direction).sum().item(), rel=1e-5)


def test_sampling_has_right_derivatives() -> None:
    grid = (torch.rand(2, 3, 5, 2) * 2.4 - 1.2).double()
    image = torch.randn(2, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    assert_close(grid_sample(image, grid), F.grid_sample(image, grid, align_corners=False))
    assert torch.autograd.gradcheck(lambda x: grid_sample(x, grid), image)
    assert torch.autograd.gradgradcheck(lambda x: grid_sample(x, grid), image)


@pytest.mark.parametrize("taps", [SYM2, SYM6])
def test_wavelets_are_orthonormal(taps: tuple[float, ...]) -> None:
    h = torch.tensor(taps, dtype=torch.float64)
    for shift in range(0, len(h), 2):
        product = torch.dot(h[shift:], h[: len(h) - shift]).item()
        assert product == pytest.approx(float(shift == 0), abs=1e-7)
    assert low_pass(taps).sum().item() == pytest.approx(1)


def test_octaves_sum_to_an_impulse() -> None:
    bank = octave_bank(SYM2, 4)
    assert bank.shape == (4, 43)
    assert_close(bank, bank.flip(1), rtol=0, atol=1e-6)
    impulse = torch.zeros(43)
    impulse[21] = 1
    assert_close(bank.sum(dim=0), impulse, rtol=0, atol=1e-6)
    assert_close(bank.sum(dim=1), torch.tensor([1.0, 0, 0, 0]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_pictures_are_widened(dtype: torch.dtype) -> None:
    image = torch.randn(2, 3, 32, 32)
    found = AugmentPipe("bgcfnc")(image.to(dtype), percentile=0.6)
    assert found.dtype == torch.float32
    assert found.isfinite().all()


def test_controller_follows_the_signs() -> None:
    pipe, controller = AugmentPipe(), AdaController(target=0.6, interval=4, speed=1.0)
    for iteration in range(1, 9):
        controller.observe(torch.tensor([3.0, 2.0, 0.1, 5.0]))
        controller.update(pipe, iteration, batch_size=4)
        assert pipe.p.item() == pytest.approx(iteration // 4 * 16 / 1000)
    for iteration in range(9, 25):
        controller.observe(torch.tensor([-3.0, 2.0, 0.1, 5.0]))  # Mean sign 0.5, below target.
        controller.update(pipe, iteration, batch_size=4)
    assert pipe.p.item() == 0


def _count_on_rank(rank: int, address: str, scores: list[float], found: Tensor) -> None:
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    controller = AdaController()
    controller.observe(torch.full((4,), scores[rank]))
    found[rank] = torch.stack([controller.sign_sum, controller.count])
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_controller_counts_what_all_processes_see(tmp_path: Any) -> None:
    found = torch.zeros(2, 2).share_memory_()
    address = f"file://{tmp_path / 'meeting'}"
    torch.multiprocessing.spawn(_count_on_rank, (address, [2.0, -2.0], found), nprocs=2)
    assert found.tolist() == [[0, 8], [0, 8]]


def test_controller_rests_without_scores() -> None:
    pipe, controller = AugmentPipe(p=0.5), AdaController(interval=1)
    controller.update(pipe, 1, batch_size=4)
    assert pipe.p.item() == 0.5


def test_state_survives(tmp_path: Any) -> None:
    pipe = AugmentPipe(p=0.25)
    assert set(pipe.state_dict()) == {"p"}
    other = AugmentPipe()
    other.load_state_dict(pipe.state_dict())
    assert other.p.item() == 0.25
    assert set(AdaController().state_dict()) == {"sign_sum", "count"}
