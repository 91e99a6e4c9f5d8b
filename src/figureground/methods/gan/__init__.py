"""A plain GAN on any pictures: StyleGAN2-ADA or SNGAN."""

from figureground.methods.gan.module import GAN

__all__ = ["GAN"]
