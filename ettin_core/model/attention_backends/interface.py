"""What an attention backend hands to the layers."""

from collections.abc import Callable

import torch

AttentionFn = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
