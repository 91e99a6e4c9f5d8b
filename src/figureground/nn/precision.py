"""Half precision where it is asked for, and numbers that must not be rounded to it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
_DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def computing_in(precision: Precision, device: torch.device) -> torch.autocast:
    """Context in which layers compute in `precision`, named as Lightning does.

    Args:
        precision: `32-true`, `bf16-mixed` or `16-mixed`; weights stay as they are in all of them.
        device: Where it is computed.
    """
    dtype = _DTYPES[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def widen(tensor: Tensor) -> Tensor:
    """Turn half precision into float32; wider types stay (losses and softmax need the bits)."""
    return tensor.float() if tensor.dtype in {torch.float16, torch.bfloat16} else tensor
