"""Adversarial losses against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from figureground.losses.adversarial import (
    GAMES,
    Game,
    PathLengthPenalty,
    logistic_discriminator_losses,
    logistic_generator_loss,
    r1_penalty,
)


def test_logistic_losses_follow_their_formulas() -> None:
    real, fake = [0.3, -2.0, 4.0], [1.0, -0.5]
    on_real, on_fake = logistic_discriminator_losses(torch.tensor(real), torch.tensor(fake))
    assert on_real.item() == pytest.approx(sum(math.log1p(math.exp(-x)) for x in real) / 3)
    assert on_fake.item() == pytest.approx(sum(math.log1p(math.exp(x)) for x in fake) / 2)
    painted = logistic_generator_loss(torch.tensor(fake))
    assert painted.item() == pytest.approx(sum(math.log1p(math.exp(-x)) for x in fake) / 2)


def test_logistic_losses_stand_large_scores() -> None:
    large = torch.tensor([-1e4, 1e4])
    for loss in (*logistic_discriminator_losses(large, large), logistic_generator_loss(large)):
        assert loss.item() == pytest.approx(5e3)


@pytest.mark.parametrize(
    ("name", "on_real", "on_fake", "on_drawn"),
    [
        ("hinge", (0.7 + 3.0 + 0.0) / 3, (2.0 + 0.5) / 2, -0.25),
        ("least_squares", (0.49 + 9.0 + 9.0) / 6, (1.0 + 0.25) / 4, (0.0 + 2.25) / 4),
        ("wasserstein", -(0.3 - 2.0 + 4.0) / 3, (1.0 - 0.5) / 2, -0.25),
    ],
)
def test_other_games_follow_their_formulas(
    name: Game, on_real: float, on_fake: float, on_drawn: float
) -> None:
    real, fake = torch.tensor([0.3, -2.0, 4.0]), torch.tensor([1.0, -0.5])
    terms = GAMES[name].discriminator(real, fake)
    assert [term.item() for term in terms] == pytest.approx([on_real, on_fake])
    assert GAMES[name].generator(fake).item() == pytest.approx(on_drawn)


@pytest.mark.parametrize("name", GAMES)
def test_players_of_a_game_pull_the_score_of_a_drawn_picture_apart(name: Game) -> None:
    game = GAMES[name]
    score = torch.tensor([game.boundary or 0.0], requires_grad=True)
    (down,) = torch.autograd.grad(sum(game.discriminator(score.detach(), score)), score)
    (up,) = torch.autograd.grad(game.generator(score), score)
    assert down > 0 > up


def test_r1_of_a_known_function() -> None:
    image = torch.randn(3, 2, 4, 4, requires_grad=True)
    penalty = r1_penalty(image.square().sum(dim=(1, 2, 3)), image)
    assert_close(penalty, 4 * image.square().sum(dim=(1, 2, 3)))
    assert penalty.requires_grad


def test_path_length_of_a_linear_painter() -> None:
    painter = torch.randn(2 * 3, 3 * 4 * 4)
    styles = torch.randn(5, 2, 3, requires_grad=True)
    image = (styles.flatten(1) @ painter).view(5, 3, 4, 4)
    loss = PathLengthPenalty(decay=0.1)
    penalty = loss(image, styles, torch.Generator().manual_seed(0))
    noise = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)) / 4
    gradient = (noise.flatten(1) @ painter.T).view(5, 2, 3)
    length = gradient.square().sum(dim=2).mean(dim=1).sqrt()
    assert_close(loss.mean_length, 0.1 * length.mean())
    assert_close(penalty, (length - loss.mean_length).square().mean())


def test_path_length_has_a_second_derivative() -> None:
    styles = torch.randn(2, 2, 3, requires_grad=True)
    scale = torch.ones(3, requires_grad=True)
    image = (styles * scale).pow(2).sum(dim=2).view(2, 1, 1, 2).expand(2, 3, 4, 2)
    PathLengthPenalty()(image, styles).backward()
    assert scale.grad is not None
    assert scale.grad.any()


def test_path_length_mean_survives() -> None:
    loss = PathLengthPenalty()
    assert set(loss.state_dict()) == {"mean_length"}
    styles = torch.randn(2, 2, 3, requires_grad=True)
    image = styles.square().sum(dim=(1, 2)).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    first = loss(image, styles)
    loss(image, styles)
    first.backward()  # The mean has moved since.
