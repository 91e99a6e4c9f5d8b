"""Pretrained generators of pictures behind one interface.

Each family is a module here with one public subclass of `ImageGenerator` (see `base.py`) and one or
more files in `conf/generator`; both are found by being there, so a new family edits no other file:

1. The network goes into `__init__` and `paint`; keyword-only options, `weights: str | None = None`
   among them; the last line of `__init__` is `self.initialise(weights)`.
2. `card` says where released weights come from. `convert` turns the content of a released file
   (`core.released.read_released`) into our names and the options that follow from the shapes, and
   raises `CheckpointError` where the file is of another family; for names in which families differ
   `select_state` takes the state dict out of its container.
3. `conf/generator/<name>.yaml` holds `_target_` and the options of one published network.

Nothing is ever downloaded.
"""
