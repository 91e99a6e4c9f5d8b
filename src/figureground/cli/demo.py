"""`demo`: a page in the browser with sliders for z, c and b (Gradio, an optional extra).

What the page does is in `Explorer`, which knows nothing of Gradio; `build_page` only lays it out.
Categories and backgrounds are numbered from 1, as on sheets of clusters.
"""

from __future__ import annotations

import html
import ipaddress
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig

from figureground.cli import run
from figureground.cli.check import check_job
from figureground.cli.coding import load_square
from figureground.cli.inference import load
from figureground.core.errors import FiguregroundError, UserError, require
from figureground.core.pictures import forget_other_formats
from figureground.core.publishing import publish_text

if TYPE_CHECKING:
    from figureground.data.pictures import Picture
    from figureground.data.samples import Pixels

logger = logging.getLogger(__name__)

_LAST_POSE = 999
_GALLERY = 8  # Pictures of a category that a picture was sorted into.
_SIDE = 256  # Pages show pictures as large as they are, so small ones are enlarged to about this.
_LOOK = 0.2  # Seconds between two looks at whether to stop.
_LARGEST = "20mb"  # Of a picture that is sent to the page.
_SWEEP, _KEPT = 60, 600  # Seconds: how often files of the page are looked at, and how old they get.


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
        answer: Makes of a message, which is HTML, the error that a page shows; None raises errors
            as they come.

    Raises:
        UserError: It does not.
    """

    def __init__(
        self, method: Any, seed: int = 0, answer: Callable[[str], Exception] | None = None
    ) -> None:
        from figureground.core.protocols import Clusterer, CodeDrawer

        if not isinstance(method, CodeDrawer):
            raise UserError(
                f"{type(method).__name__} draws from no codes that could be set by hand; use a "
                "checkpoint of l2ic, c3gan or comgan"
            )
        self.method, self.seed, self.answer = method, seed, answer
        self.can_sort = isinstance(method, Clusterer) and "c" in method.codes

    def draw(self, pose: int, category: int, background: int) -> Parts:
        """Draw pose number `pose` (from 0 on) of a category before a background (from 1 on).

        Raises:
            UserError: There is no such pose, category or background.
        """
        with self._answering():
            return self._draw(pose, category, background)

    def _draw(self, pose: int, category: int, background: int) -> Parts:
        import torch

        from figureground.core.seeds import mix_seed
        from figureground.viz.grids import to_uint8

        method = self.method
        _require_whole("pose", pose, 0, _LAST_POSE)
        _require_whole("category", category, 1, method.num_categories)
        _require_whole("background", background, 1, method.num_backgrounds)
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

    def sort(self, picture: Picture | None) -> tuple[int, list[Pixels]]:
        """Category of a picture, and drawn pictures of that category in other poses.

        Raises:
            DataError: The picture is a file that cannot be read.
            UserError: There is none.
        """
        import torch

        with self._answering():
            if picture is None:
                raise UserError("there is no picture to sort; choose a file")
            with torch.inference_mode():
                found = self.method.cluster(load_square(self.method, picture))  # type: ignore[attr-defined]  # a Clusterer
            category = int(found) + 1
            ground = self.follow(category)
            drawn = [self._draw(pose, category, ground).picture for pose in range(_GALLERY)]
        return category, drawn

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Tell whoever sits before the page what was wrong, in short and without our paths."""
        try:
            yield
        except Exception as error:
            if self.answer is None:
                raise
            if isinstance(error, FiguregroundError):
                problem = publish_text(f"{error}").split("; run prepare")[0]
            else:
                logger.exception("the page could not answer")
                problem = "this did not work; the terminal of the demo says why"
            raise self.answer(html.escape(problem)) from None


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

    if not _is_local(config.host):
        logger.warning(
            "host=%s: whoever reaches this machine over the network can use the page, as it asks "
            "for no password; host=127.0.0.1 shows it on this machine alone",
            config.host,
        )
    answer = partial(gradio.Error, print_exception=False)
    page = build_page(gradio, Explorer(load(config.ckpt, config.device), config.seed, answer))
    logging.getLogger("httpx").setLevel(logging.WARNING)  # It tells of each request.
    with watching() as stop:
        try:
            page.launch(
                server_name=config.host, server_port=config.port, share=False, quiet=True,
                show_error=False, prevent_thread_lock=True, max_file_size=_LARGEST,
            )  # fmt: skip
        except OSError as error:  # Somebody else was quicker.
            raise _no_port(config.host, config.port, error) from error
        host = f"[{config.host}]" if ":" in config.host else config.host
        logger.info("open http://%s:%d; Ctrl-C ends it", host, config.port)
        try:
            while True:
                stop.check()
                time.sleep(_LOOK)
        finally:
            page.close(verbose=False)


def _require_whole(what: str, number: object, low: int, high: int) -> None:
    """Raise `UserError` unless `number` is a whole one from `low` to `high`."""
    # Whoever calls the page without its sliders can send anything.
    if not isinstance(number, int | float) or not low <= number <= high or number % 1:
        raise UserError(f"{what} {number} is none of {low} to {high}")


def _is_local(host: str) -> bool:
    """Whether a page on `host` is seen on this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # A name.
        return host == "localhost"


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
    keeping = {"analytics_enabled": False, "delete_cache": (_SWEEP, _KEPT)}
    with gradio.Blocks(title="figureground", **keeping) as page:
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
                # A file: our own reader decodes it, which refuses what is absurd or no picture.
                given = gradio.Image(
                    label="a picture to sort", type="filepath", image_mode=None,
                    sources=["upload"], height=_SIDE,
                )  # fmt: skip
                gallery = gradio.Gallery(label="drawn ones of its category", columns=4, **shown)
            # The slider then shows the category, and draws it.
            given.upload(explorer.sort, inputs=[given], outputs=[category, gallery])
    return page
