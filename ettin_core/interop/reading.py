"""How the predictions of a transformers folder are read: as its ettin.json says, else as its architecture suggests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import read_mapping
from ettin_core.interop.huggingface import METADATA_FILE
from ettin_core.objectives.config import SCHEDULES
from ettin_core.objectives.kinds import OBJECTIVES
from ettin_core.records.readout import AT_MASK, NEXT_TOKEN, Readout, readout_named

CAUSAL, MASKED = ("ForCausalLM", "LMHeadModel"), ("ForMaskedLM",)  # how the names of classes end


def readout_of(folder: Path) -> Readout:
    """How a folder's model is read.

    Raises ValueError if its ettin.json says that it is not read, or names an unknown objective, and if the architecture
    has no language-model head.
    """
    file = folder / METADATA_FILE
    stated = stated_readout(read_mapping(file), str(file)) if file.is_file() else None
    if stated is not None:
        return stated
    architectures = architectures_of(folder)
    if any(name.endswith(MASKED) for name in architectures):
        return AT_MASK
    if any(name.endswith(CAUSAL) for name in architectures):
        return NEXT_TOKEN
    remedy = "give a ...ForMaskedLM or ...ForCausalLM, or say readout=mlm, clm or mntp"
    raise invalid("architectures", architectures, f"in {folder / 'config.json'} has no language-model head", remedy)


def stated_readout(facts: Mapping[str, Any], where: str) -> Readout | None:
    """The readout that ettin.json names; None where it names none.

    Older files name only an objective, or a schedule whose readout is that of the architecture.
    """
    objective = facts.get("objective")
    name = facts.get("readout")
    if name is None and objective in OBJECTIVES:
        name = OBJECTIVES[objective].readout
    if name is None and objective is not None and objective not in SCHEDULES:
        remedy = "add its file to objectives/kinds, or say how it is read: readout=clm, mlm, mntp or ahead<n>"
        raise invalid("objective", objective, f"of {where} is not defined here", remedy)
    if name is None:
        return None
    if (readout := readout_named(name)) is None:
        problem = f"of {where} declares no readout, so the model cannot be measured"
        raise invalid("objective", objective, problem, "say how it is read: readout=clm, mlm, mntp or ahead<n>")
    return readout


def loads_as_causal(folder: Path, readout: Readout) -> bool:
    """Whether AutoModelForCausalLM loads the folder: a model with a causal class may be trained to fill masks."""
    return not readout.masked or any(name.endswith(CAUSAL) for name in architectures_of(folder))


def architectures_of(folder: Path) -> list[str]:
    """The names of classes in config.json. Raises ValueError if the file is missing."""
    config = folder / "config.json"
    if not config.is_file():
        raise invalid("model", str(folder), "holds no config.json", "give a folder written by save_pretrained")
    names = read_mapping(config).get("architectures")
    return [str(name) for name in names] if isinstance(names, list) else []
