"""Numbers that must not be rounded to half precision."""

from __future__ import annotations

import torch
from torch import Tensor


def widen(tensor: Tensor) -> Tensor:
    """Turn half precision into float32; wider types stay (losses and softmax need the bits)."""
    return tensor.float() if tensor.dtype in {torch.float16, torch.bfloat16} else tensor
