"""`demo`: a page in the browser with sliders for z, c and b (Gradio, an optional extra).

What the page does is in `Explorer`, which knows nothing of Gradio; `build_page` only lays it out.
Categories and backgrounds are numbered from 1, as on sheets of clusters.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig

from figureground.cli import run
from figureground.cli.check import check_job
from figureground.cli.coding import load_square
from figureground.cli.inference import load
from figureground.core.errors import UserError, require
from figureground.core.pictures import forget_other_formats

if TYPE_CHECKING:
    from figureground.data.samples import Pixels

logger = logging.getLogger(__name__)

_LAST_POSE = 999
_GALLERY = 8  # Pictures of a category that a picture was sorted into.
_SIDE = 256  # Pages show pictures as large as they are, so small ones are enlarged to about this.
_LOOK = 0.2  # Seconds between two looks at whether to stop.


class Parts(NamedTuple):
    """A drawn picture and what it is made of, uint8 (side, side, 3), enlarged by whole factors."""

    picture: Pixels
    mask: Pixels
    foreground: Pixels
    background: Pixels


class Explorer:
    """Draws pictures of chosen codes, and sorts given ones.

    Args:
        method: Draws from codes.
        seed: Of the poses.

    Raises:
        UserError: It does not.
    """

    def __init__(self, method: Any, seed: int = 0) -> None:
        from figureground.core.protocols import Clusterer, CodeDrawer

        if not isinstance(method, CodeDrawer):
            raise UserError(
                f"{type(method).__name__} draws from no codes that could be set by hand; use a "
                "checkpoint of l2ic, c3gan or comgan"
            )
        self.method, self.seed = method, seed
        self.can_sort = isinstance(method, Clusterer) and "c" in method.codes

    def draw(self, pose: int, category: int, background: int) -> Parts:
        """Draw pose number `pose` (from 0 on) of a category before a background (from 1 on).

        Raises:
            UserError: There is no such category or background.
        """
        import torch

        from figureground.core.seeds import mix_seed
        from figureground.viz.grids import to_uint8

        method = self.method
        for what, number, count in (
            ("category", category, method.num_categories),
            ("background", background, method.num_backgrounds),
        ):
            if not 1 <= number <= count:
                raise UserError(f"{what} {number} is none of 1 to {count}")
        chance = torch.Generator().manual_seed(mix_seed(self.seed, int(pose)))
        codes = [torch.tensor([int(number) - 1]) for number in (category, background)]
        with torch.inference_mode():
            layers = method.compose(method.draw_poses(1, generator=chance), *codes)
        mask = (2 * layers.foreground[0] - 1).expand(3, -1, -1)
        ground, *fronts = layers.color[0]
        parts = (layers.composite[0], mask, fronts[-1], ground)
        factor = max(1, _SIDE // mask.shape[-1])
        return Parts(*(to_uint8(part).repeat(factor, 0).repeat(factor, 1) for part in parts))

    def follow(self, category: int) -> int:
        """The background that goes with a category in training."""
        import torch

        return int(self.method.background_of(torch.tensor([int(category) - 1]))) + 1

    def sort(self, picture: Pixels) -> tuple[int, list[Pixels]]:
        """Category of a picture (H, W, 3), and drawn pictures of that category in other poses."""
        import torch

        with torch.inference_mode():
            found = self.method.cluster(load_square(self.method, picture))  # type: ignore[attr-defined]  # a Clusterer
        category = int(found) + 1
        ground = self.follow(category)
        return category, [self.draw(pose, category, ground).picture for pose in range(_GALLERY)]


def main() -> None:
    """Entry of the command."""
    run(demo, "demo")


def demo(config: DictConfig) -> None:
    """Serve the page until a signal ends it."""
    check_job(config)
    gradio = require("gradio", extra="demo")  # Before weights are read.
    forget_other_formats()  # It opens what is sent by itself.
    _require_port(config.host, config.port)
    from figureground.core.signals import watching

    page = build_page(gradio, Explorer(load(config.ckpt, config.device), config.seed))
    logging.getLogger("httpx").setLevel(logging.WARNING)  # It tells of each request.
    with watching() as stop:
        try:
            page.launch(
                server_name=config.host, server_port=config.port, share=False, quiet=True,
                show_error=True, prevent_thread_lock=True,
            )  # fmt: skip
        except OSError as error:  # Somebody else was quicker.
            raise _no_port(config.host, config.port, error) from error
        logger.info("open http://%s:%d; Ctrl-C ends it", config.host, config.port)
        try:
            while True:
                stop.check()
                time.sleep(_LOOK)
        finally:
            page.close(verbose=False)


def _require_port(host: str, port: int) -> None:
    """Raise `UserError` where the page could not be served."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise _no_port(host, port, error) from error


def _no_port(host: str, port: int, error: OSError) -> UserError:
    return UserError(
        f"host={host} port={port} cannot be used ({error.strerror or error}); choose another "
        "port=..., such as one more, and a host of this machine"
    )


def build_page(gradio: Any, explorer: Explorer) -> Any:
    """Lay out the page: sliders above the parts of a picture, and a place for pictures to sort.

    Args:
        gradio: The module.
        explorer: What the page asks.
    """
    method = explorer.method
    # Exact pixels, and no button that would send them to others.
    shown = {"format": "png", "buttons": ["download", "fullscreen"]}
    # Nothing is to be reported to anybody.
    with gradio.Blocks(title="figureground", analytics_enabled=False) as page:
        pose = gradio.Slider(0, _LAST_POSE, value=0, step=1, label="z: pose")
        category = gradio.Slider(
            1, method.num_categories, value=1, step=1, label="c: category",
            visible="c" in method.codes,
        )  # fmt: skip
        background = gradio.Slider(
            1, method.num_backgrounds, value=1, step=1, label="b: background",
            visible="b" in method.codes,
        )  # fmt: skip
        with gradio.Row():
            parts = [gradio.Image(label=name, interactive=False, **shown) for name in Parts._fields]
        sliders = [pose, category, background]
        for slider in sliders:
            # Without a sign of progress the picture before stays until the new one is there.
            slider.change(explorer.draw, inputs=sliders, outputs=parts, show_progress="hidden")
        page.load(explorer.draw, inputs=sliders, outputs=parts)
        if explorer.can_sort:
            with gradio.Row():
                given = gradio.Image(
                    label="a picture to sort", type="numpy", sources=["upload"], height=_SIDE
                )
                gallery = gradio.Gallery(label="drawn ones of its category", columns=4, **shown)
            # The slider then shows the category, and draws it.
            given.upload(explorer.sort, inputs=[given], outputs=[category, gallery])
    return page
