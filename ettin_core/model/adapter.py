"""Low-rank adapters (LoRA, Hu et al. 2021) by `peft`: W becomes W + alpha / rank * B A, and only A and B are trained.

Adapted is every linear map of the one transformer, all of its matrices but the tied embedding. Its maps do not depend on
the direction, so an encoder and a decoder have the same adapted matrices and as many adapter parameters. (Transformers'
two classes divide the attention's projections differently and would not.)
"""

import importlib.util
from typing import Any

import torch
from torch import nn

from ettin_core.foundation.errors import invalid, with_extra
from ettin_core.foundation.randomness import derive, uniform_between
from ettin_core.model.accounting import adapter_parameter_count
from ettin_core.model.config import AdapterConfig
from ettin_core.model.transformer import Transformer

NAME = "default"  # peft's own


def check_installed() -> None:
    """Raises ValueError if peft is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise invalid("adapter", "lora", "needs a package", f"{with_extra('lora')}, or use adapter=none")


def add_adapter(model: Transformer, config: AdapterConfig, seed: int) -> None:
    """Adapt every linear map of a model in place and freeze everything else; the model's function stays as it is.

    B is zero; A is uniform in ±1/sqrt(its inputs), peft's own choice, drawn from (seed, its name): the same start on any
    processor or device, whatever was drawn before.
    """
    from peft import LoraConfig, inject_adapter_in_model

    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    inject_adapter_in_model(
        LoraConfig(r=config.rank, lora_alpha=config.alpha, lora_dropout=0.0, bias="none", target_modules=linear), model
    )
    assert [name for name, _ in _adapted(model)] == linear
    added = trained(model)
    assert sum(parameter.numel() for parameter in added.values()) == adapter_parameter_count(model.config, config.rank)
    with torch.no_grad():
        for name, parameter in added.items():
            if ".lora_B." in name:
                parameter.zero_()
            else:
                values = uniform_between(derive(seed, "adapter", name), parameter.numel(), parameter.shape[1] ** -0.5)
                parameter.copy_(torch.from_numpy(values).view(parameter.shape))


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


@torch.no_grad()
def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state of a model in the one transformer's layout, adapters merged into their matrices (in fp32)."""
    state = {
        name.replace(".base_layer.", "."): tensor for name, tensor in model.state_dict().items() if ".lora_" not in name
    }
    for name, module in _adapted(model):
        state[f"{name}.weight"] = state[f"{name}.weight"] + module.get_delta_weight(NAME)
    return state


def _adapted(model: nn.Module) -> list[tuple[str, Any]]:
    """The adapted maps by name."""
    return [(name, module) for name, module in model.named_modules() if hasattr(module, "base_layer")]
