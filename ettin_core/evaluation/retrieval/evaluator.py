"""MTEB's evaluation of a model on a task: its result, and what it predicted."""

import json
from pathlib import Path
from typing import Any


def evaluate(model: Any, task: Any, batch: int, predictions: Path | None = None) -> Any:
    """MTEB's result of a task; what it predicted goes to a folder."""
    import mteb

    [result] = mteb.evaluate(
        model,
        task,
        cache=None,
        encode_kwargs={"batch_size": batch, "show_progress_bar": False},
        prediction_folder=predictions,
        show_progress_bar=False,
    ).task_results
    return result


def read_predictions(folder: Path) -> dict[str, Any]:
    """What MTEB kept of a task: subset, split, and then whatever the kind of task predicts."""
    files = list(folder.glob("*_predictions.json"))
    content = json.loads(files[0].read_bytes()) if len(files) == 1 else {}
    return {subset: splits for subset, splits in content.items() if subset != "mteb_model_meta"}
