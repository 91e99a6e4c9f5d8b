"""gan-segmenter: directions in latent spaces that tell objects from their ground."""

from figureground.methods.gan_segmenter.module import GANSegmenter

__all__ = ["GANSegmenter"]
