"""What is tuned: a decoder (or encoder) as transformers loads it, from a folder or hub id, or a PEFT adapter on its base."""

import importlib.util
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ettin_core.evaluation.retrieval.checkpoints import CheckpointToEmbed, open_checkpoint
from ettin_core.foundation.errors import invalid, with_extra
from ettin_core.foundation.storage import canonical_json, hash_file, hash_text, read_mapping, write_json
from ettin_core.interop.huggingface import METADATA_FILE
from ettin_core.records.readout import AT_MASK

PACKAGES = ("trl", "peft", "datasets")
ADAPTER_FILE, ADAPTER_WEIGHTS, BASE_FILE = "adapter_config.json", "adapter_model.safetensors", "ettin_base.json"
CONVERT = "give a decoder, or convert it: python -m experiments.convert parent=<run> member=dec-from-enc"


@dataclass(frozen=True)
class TunedModel:
    """The checkpoint that tuning begins with, an `adapter` to merge into it first, and the tunings behind it."""

    checkpoint: CheckpointToEmbed
    adapter: Path | None
    facts: dict[str, Any]

    @property
    def stages(self) -> list[str]:
        """The tunings behind the model, as ["sft_full"]; none of a base."""
        return list(self.facts.get("tuned", []))

    @property
    def fills(self) -> bool:
        """Whether it is an encoder, which fills masks."""
        return self.checkpoint.architecture in _masked_classes()

    @property
    def content(self) -> str:
        """What decides the weights."""
        return self._with_adapter(self.checkpoint.content)

    @property
    def weights(self) -> str:
        """The hash in records: that of the checkpoint, with an adapter of both."""
        return self._with_adapter(self.checkpoint.weights)

    def _with_adapter(self, base: str) -> str:
        if self.adapter is None:
            return base
        config = read_mapping(self.adapter / ADAPTER_FILE)
        config.pop("base_model_name_or_path", None)  # a place
        return hash_text(canonical_json([base, config, hash_file(self.adapter / ADAPTER_WEIGHTS)]))

    def load(self) -> Any:
        """The model of transformers, in fp32 and with its adapter merged."""
        model = load_model(self.checkpoint.folder, self.fills)
        return model if self.adapter is None else _merged(model, self.adapter, self.checkpoint)

    def tokenizer(self) -> Any:
        """The tokenizer; an adapter's folder has the one it was trained with."""
        from transformers import AutoTokenizer

        has_files = self.adapter is not None and (self.adapter / "tokenizer_config.json").is_file()
        return AutoTokenizer.from_pretrained(
            self.adapter if has_files else self.checkpoint.folder, local_files_only=True
        )


def load_model(folder: Path, fills: bool) -> Any:
    """The decoder of a transformers folder, or the encoder that fills masks, in fp32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    auto: Any = AutoModelForMaskedLM if fills else AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype=torch.float32, local_files_only=True, use_safetensors=True)


def need_packages() -> None:
    """Raises ValueError where the optional packages of this package are not installed."""
    for name in PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise invalid("package", name, "is not installed", with_extra("chat"))


def open_tuned(source: str, base: str | None, encoders: bool = False) -> TunedModel:
    """A decoder's folder, hub id, or the folder of a PEFT adapter, whose base is `base` (None: the one it names).

    With `encoders`, a model that predicts a masked token in its own place will do as well. Raises ValueError for what is
    neither, and for an adapter of another base.
    """
    folder = Path(source)
    adapter = folder.resolve() if (folder / ADAPTER_FILE).is_file() else None
    if adapter is None:
        if base is not None:
            raise invalid("base", base, f"belongs to an adapter, and {source} is a model", "leave it out")
        return _of_checkpoint(open_checkpoint(source), None, encoders)
    if not (adapter / ADAPTER_WEIGHTS).is_file():
        raise invalid("model", source, f"is an adapter without {ADAPTER_WEIGHTS}", "save it with save_pretrained")
    named = read_mapping(adapter / ADAPTER_FILE).get("base_model_name_or_path")
    checkpoint = open_checkpoint(base or str(named))
    file = adapter / BASE_FILE
    if file.is_file() and read_mapping(file)["content"] != checkpoint.content:
        problem = f"is an adapter for another base than {checkpoint.folder}"
        raise invalid(
            "model", source, problem, f"give base=<the folder of {read_mapping(file)['run']} it was trained on>"
        )
    return _of_checkpoint(checkpoint, adapter, encoders)


def write_base(adapter: Path, checkpoint: CheckpointToEmbed, facts: dict[str, Any]) -> None:
    """Note in an adapter's folder which base it belongs to, and what the tuned model is."""
    write_json(adapter / BASE_FILE, {"run": checkpoint.run, "content": checkpoint.content})
    write_json(adapter / METADATA_FILE, facts)


def _masked_classes() -> set[str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return set(MODEL_FOR_MASKED_LM_MAPPING_NAMES.values())


def _of_checkpoint(checkpoint: CheckpointToEmbed, adapter: Path | None, encoders: bool) -> TunedModel:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = read_mapping(checkpoint.folder / "config.json")
    architectures = config.get("architectures") or [
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(str(config.get("model_type")), "")
    ]
    file = (adapter or checkpoint.folder) / METADATA_FILE
    model = TunedModel(checkpoint, adapter, read_mapping(file) if file.is_file() else {})
    if not set(architectures) & set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()) and not (encoders and model.fills):
        raise invalid("model", checkpoint.run, f"is not a decoder ({', '.join(architectures)})", CONVERT)
    if model.fills and (readout := model.facts.get("readout", AT_MASK.name)) != AT_MASK.name:
        problem = f"is read as {readout}, and masks are filled in their own place"
        raise invalid("model", checkpoint.run, problem, "give an encoder of mlm, or a decoder")
    return model


def _merged(model: Any, adapter: Path, checkpoint: CheckpointToEmbed) -> Any:
    from peft import PeftModel

    try:
        with warnings.catch_warnings():  # PEFT only warns of an adapter that lacks weights
            warnings.filterwarnings("error", message=".*Found missing adapter keys")
            whole = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
            return whole.requires_grad_(True)  # PEFT froze the base
    except (RuntimeError, ValueError, UserWarning) as error:
        problem = f"is an adapter for another base than {checkpoint.folder}: it does not fit"
        raise invalid("model", str(adapter), problem, "give base=<the folder it was trained on>") from error
