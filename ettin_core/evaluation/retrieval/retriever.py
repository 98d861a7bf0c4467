"""A dense model that was trained here: the teacher of multi-vector models, the miner and first stage of rerankers."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ettin_core.evaluation.retrieval.backbone import quiet
from ettin_core.foundation.errors import invalid
from ettin_core.foundation.storage import canonical_json, hash_file, hash_text, read_mapping

REMEDY = "train one with kind=dense, and give its folder <retrieval_dir>/<trial>, which that command prints"


@dataclass(frozen=True)
class Retriever:
    """A SentenceTransformer folder and the hash of its files, which decides what is trained or ranked with it."""

    folder: Path
    content: str

    @cached_property
    def _models(self) -> dict[str, Any]:
        return {}

    def model(self, device: str) -> Any:
        """The model, opened once."""
        from sentence_transformers import SentenceTransformer

        if device not in self._models:
            with quiet():
                self._models[device] = SentenceTransformer(str(self.folder), device=device).eval()
            self._models[device].model_card_data.model_name = f"ettin/retriever-{self.content[:10]}"
        return self._models[device]

    def scores(self, queries: list[str], documents: list[str], scale: float, device: str) -> list[float]:
        """Cosines of pairs times `scale`, in the pairs' order."""
        model = self.model(device)
        left, right = (model.encode(texts, convert_to_tensor=True) for texts in (queries, documents))
        return [scale * float(value) for value in model.similarity_pairwise(left, right)]


def open_retriever(name: str) -> Retriever:
    """The dense model of a trial's folder, or of any SentenceTransformer folder. Raises ValueError for what is neither."""
    trial = Path(name)
    folder = trial / "model" if (trial / "model" / "modules.json").is_file() else trial
    config = folder / "config_sentence_transformers.json"
    if not (folder / "modules.json").is_file():
        raise invalid("retriever", name, "is not a folder of a dense model", REMEDY)
    kind = read_mapping(config).get("model_type", "SentenceTransformer") if config.is_file() else "SentenceTransformer"
    if kind != "SentenceTransformer":
        raise invalid("retriever", name, f"is a {kind}, not a dense model", REMEDY)
    files = sorted(path for pattern in ("*.safetensors", "*.json", "*.bin") for path in folder.rglob(pattern))
    hashes = {str(path.relative_to(folder)): hash_file(path) for path in files if path.name != "training.json"}
    return Retriever(folder, hash_text(canonical_json(hashes)))
