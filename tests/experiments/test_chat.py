"""Chat tuning from end to end with TRL and PEFT. One file: trl imports for seconds."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("trl", reason="the extra `chat` is not installed")
pytest.importorskip("peft", reason="the extra `chat` is not installed")

from analysis.compare import compare  # noqa: E402
from ettin_core.data.corpus import Corpus  # noqa: E402
from ettin_core.evaluation.chat import filling, scoring, trainers  # noqa: E402
from ettin_core.evaluation.chat.model import open_tuned  # noqa: E402
from ettin_core.evaluation.chat.rows import read_conversations, read_preferences  # noqa: E402
from ettin_core.evaluation.chat.table import table  # noqa: E402
from ettin_core.evaluation.chat.template import EncodedConversation, encode, set_template  # noqa: E402
from ettin_core.evaluation.chat.tuning import TuningResult  # noqa: E402
from ettin_core.foundation.errors import UserError  # noqa: E402
from ettin_core.records.folders import RunFolder  # noqa: E402
from ettin_core.requests.tune import DpoRequest, SftRequest, dpo, sft  # noqa: E402
from experiments.export import export_run  # noqa: E402
from tests import processes  # noqa: E402
from tests.embeddings import write_rows  # noqa: E402
from tests.runs import tiny_run, train_tiny  # noqa: E402

ANIMALS = ("cat", "dog", "horse", "bird", "fish", "cow")
COMMON: dict[str, Any] = {
    "base": None, "checkpoint": None, "template": None, "max_rows": None, "held_out_rows": None, "method": "full",
    "learning_rate": 3e-3, "batch": 4, "epochs": 2.0, "max_length": 80, "warmup_share": 0.1, "rank": 4, "alpha": 8, "seed": 1,
    "save_every": 4, "device": "cpu", "threads": 1,
}  # fmt: skip


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def conversation(number: int) -> dict[str, Any]:
    asked = message("user", f"Where is the {ANIMALS[number % 6]} number {number}?")
    messages = [asked, message("assistant", f"The {ANIMALS[number % 6]} is at home.")]
    if number % 3 == 0:
        messages = [message("system", "Be short."), *messages, message("user", "Sure?"), message("assistant", "Yes.")]
    return {"id": f"c{number}", "split": "test" if number % 4 == 0 else "train", "messages": messages}


def preference(number: int) -> dict[str, Any]:
    prompt = [message("user", f"Where is the {ANIMALS[number % 6]} number {number}?")]
    answers = [[message("assistant", f"It is {place}.")] for place in ("at home", "on the old hill")]
    split = "test" if number % 4 == 0 else "train"
    return {"id": f"p{number}", "split": split, "prompt": prompt, "chosen": answers[0], "rejected": answers[1]}


@pytest.fixture(scope="module")
def place(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained decoder and its export, an encoder's export, conversations and preferences."""
    root = tmp_path_factory.mktemp("chat")
    for member in ("decoder", "encoder"):
        folder = train_tiny(tiny_run(corpus, member), root / "runs", corpus)
        (root / f"{member}.run").symlink_to(folder.path)
        export_run(folder.path, root / member, corpus.folder.parent)
    for name, row_of in (("talk", conversation), ("choices", preference)):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row_of(number)) + "\n" for number in range(32)))
    return root


@pytest.fixture(scope="module")
def request_of(place: Path, corpus: Corpus) -> SftRequest:
    places = {"runs_dir": str(place / "runs"), "corpora_dir": str(corpus.folder.parent)}
    return SftRequest(
        model=str(place / "decoder"), conversations=str(place / "talk.jsonl"), out=str(place / "full"), packing=True,
        assistant_only=True, **places, **COMMON,
    )  # fmt: skip


@pytest.fixture(scope="module")
def full(request_of: SftRequest) -> TuningResult:
    return sft(request_of)


@pytest.fixture(scope="module")
def lora(request_of: SftRequest, place: Path) -> TuningResult:
    return sft(replace(request_of, method="lora", out=str(place / "lora")))


@pytest.fixture(scope="module")
def filling_request(request_of: SftRequest, place: Path) -> SftRequest:
    small: dict[str, Any] = {"packing": False, "max_rows": 12, "held_out_rows": 4}
    return replace(request_of, model=str(place / "encoder.run"), out=str(place / "filled"), **small)


@pytest.fixture(scope="module")
def filled(filling_request: SftRequest) -> TuningResult:
    return sft(filling_request)


def value(rows: list[Any], metric: str) -> float:
    return next(row.value for row in rows if row.metric == metric)


PLAIN = Path(__file__).parent / "fixtures" / "plain_chat.py"


def test_plain_libraries_give_the_stored_loss_and_tune_an_exported_folder(
    full: TuningResult, lora: TuningResult, filled: TuningResult, place: Path
) -> None:
    rows = [row for row in map(conversation, range(32)) if row["split"] == "test"]
    (place / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folders = (full.folder, lora.folder, place / "decoder", place / "encoder", filled.folder, place / "held_out.jsonl")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(PLAIN), *map(str, folders)], cwd=place, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    plain = json.loads(done.stdout.splitlines()[-1])
    assert plain["ours"] == [] and plain["words"] == 3 and plain["written"].startswith("The cat") and plain["tuned"]
    assert plain["full"] == pytest.approx(value(full.after, "loss"), abs=1e-5)
    assert plain["filled"] == pytest.approx(value(filled.after, "loss"), abs=1e-5)
    assert plain["merged"] == pytest.approx(value(lora.after, "loss"), abs=1e-5)
    assert plain["adapter"] == pytest.approx(plain["merged"], abs=1e-5)


def test_held_out_answers_cost_less_and_records_say_so(
    full: TuningResult, lora: TuningResult, place: Path, request_of: SftRequest
) -> None:
    for result in (full, lora):
        assert value(result.after, "bits_per_byte") < value(result.before, "bits_per_byte")
        assert f"{value(result.after, 'bits_per_byte'):.4f}" in table(result)
    run = RunFolder((place / "decoder.run").resolve())
    scores = {row.protocol: row.value for row in run.measurements() if row.metric == "bits_per_byte"}
    for name, rows in {"base": full.before, "sft_full": full.after, "sft_lora": lora.after}.items():
        assert scores[f"chat.{name}"] == value(rows, "bits_per_byte")
    for before, after in ((full.before, full.after), (lora.before, lora.after)):
        shared = [rows[0].provenance["settings"] for rows in (before, after)]
        assert shared[0] == shared[1]["measured"] and not {"base", "weights"} & shared[1].keys()
    assert shared[1] != full.after[0].provenance["settings"]
    frame = compare([full.folder / "before"], [full.folder], None, None)
    assert set(frame["metric"]) == {"bits_per_byte", "loss"} and (frame["value"] > 0).all() and (frame["n"] == 8).all()
    modified = (full.folder / "model.safetensors").stat().st_mtime_ns
    assert sft(request_of) == full and (full.folder / "model.safetensors").stat().st_mtime_ns == modified
    with pytest.raises(UserError, match="holds a tuning with other settings"):
        sft(replace(request_of, seed=2))


def test_a_stopped_tuning_ends_as_an_uninterrupted_one(
    full: TuningResult, request_of: SftRequest, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = replace(request_of, out=str(place / "again"))
    steps = []
    with monkeypatch.context() as patched:
        patched.setattr(torch.optim.AdamW, "step", _failing(torch.optim.AdamW.step, steps))
        with pytest.raises(KeyboardInterrupt):
            sft(again)
    assert not (place / "again").exists() and list((place / "again.training").glob("checkpoint-4/trainer_state.json"))
    with pytest.raises(UserError, match="again.training.* holds a tuning with other settings"):
        sft(replace(again, epochs=3.0))
    result = sft(again)
    assert [row.value for row in result.after] == [row.value for row in full.after]
    assert (result.folder / "model.safetensors").read_bytes() == (full.folder / "model.safetensors").read_bytes()
    assert not (place / "again.training").exists()


def _failing(step: Any, steps: list[int]) -> Any:
    def failing(*arguments: Any, **options: Any) -> Any:
        steps.append(1)
        if len(steps) > 5:
            raise KeyboardInterrupt
        return step(*arguments, **options)

    return failing


def test_preferences_from_an_sft_folder_are_learned(
    full: TuningResult, lora: TuningResult, place: Path, request_of: SftRequest
) -> None:
    values = {name: getattr(request_of, name) for name in (*COMMON, "runs_dir", "corpora_dir")}
    options = values | {"preferences": str(place / "choices.jsonl"), "learning_rate": 1e-3}
    request = DpoRequest(model=str(full.folder), out=str(place / "dpo"), beta=0.3, **options)
    result = dpo(request)
    assert value(result.after, "accuracy_of_rewards") == 1.0
    assert value(result.after, "accuracy") >= value(result.before, "accuracy")
    protocols = {row.protocol for row in RunFolder((place / "decoder.run").resolve()).measurements()}
    assert {"preferences.sft_full", "preferences.sft_full.dpo_full"} <= protocols
    assert json.loads((place / "dpo" / "ettin.json").read_text())["tuned"] == ["sft_full", "dpo_full"]
    adapted = replace(request, model=str(lora.folder / "adapter"), out=str(place / "dpo-adapter"))
    first, second = dpo(adapted), replace(adapted, model=str(lora.folder), out=str(place / "dpo-merged"))
    assert [row.value for row in first.before] == pytest.approx([row.value for row in dpo(second).before], abs=1e-6)


def test_an_encoder_learns_to_fill_answers(
    filled: TuningResult,
    filling_request: SftRequest,
    request_of: SftRequest,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert value(filled.after, "bits_per_byte") < value(filled.before, "bits_per_byte")
    again = replace(filling_request, out=str(place / "filled-again"))
    with monkeypatch.context() as patched:
        patched.setattr(torch.optim.AdamW, "step", _failing(torch.optim.AdamW.step, []))
        with pytest.raises(KeyboardInterrupt):
            sft(again)
    assert (sft(again).folder / "model.safetensors").read_bytes() == (filled.folder / "model.safetensors").read_bytes()
    lora = sft(replace(filling_request, method="lora", out=str(place / "filled-lora")))
    assert value(lora.after, "bits_per_byte") < value(lora.before, "bits_per_byte")
    protocols = {row.protocol for row in RunFolder((place / "encoder.run").resolve()).measurements()}
    assert {"chat_filled.base", "chat_filled.sft_full", "chat_filled.sft_lora"} <= protocols
    for model, expected in (
        ("encoder", "is not a decoder .ModernBertForMaskedLM."),
        ("encoder.run", "is bidirectional"),
    ):
        values = {name: getattr(request_of, name) for name in (*COMMON, "runs_dir", "corpora_dir")}
        preferences = str(place / "choices.jsonl")
        with pytest.raises(UserError, match=expected):
            dpo(
                DpoRequest(model=str(place / model), out=str(place / "no"), preferences=preferences, beta=0.3, **values)
            )


def test_filled_answers_by_hand(place: Path) -> None:
    """The row's tokens to come are masks, other answers are whole, and later turns are not there."""
    model = open_tuned(str(place / "encoder"), None, encoders=True)
    tokenizer, loaded = model.tokenizer(), model.load().eval().requires_grad_(False)
    mask = tokenizer.mask_token_id
    row = EncodedConversation([2, 10, 11, 12, 13, 14, 15, 16], [2, 3, 6])
    asked = [([2, 10, mask, mask], 2), ([2, 10, 11, mask], 3), ([2, 10, 11, 12, 13, 14, mask], 6)]
    logits = [loaded(torch.tensor([ids])).logits[0, at].log_softmax(-1)[row.ids[at]] for ids, at in asked]
    assert filling.nats(loaded, tokenizer, [row]) == pytest.approx([-float(sum(logits))], abs=1e-4)
    torch.manual_seed(0)
    batch = filling.padded([{"ids": row.ids, "answers": row.answers}, {"ids": [2], "answers": [0]}], 0)
    assert batch["attention_mask"].tolist() == [[1] * 8, [1] + [0] * 7]
    hidden, weights = filling.hidden(batch["answers"][:1].repeat(300, 1))
    assert {tuple(np.flatnonzero(places).tolist()) for places in hidden.numpy()} == {
        (2,), (3,), (6,), (2, 3), (2, 6), (3, 6), (2, 3, 6)
    }  # fmt: skip
    assert torch.allclose(weights.sum(1), torch.tensor(3.0)) and not weights[~hidden].any()
    assert np.bincount(hidden.sum(1))[1:] == pytest.approx([100, 100, 100], abs=30)


def test_answers_are_the_generation_block(place: Path) -> None:
    tokenizer = open_tuned(str(place / "decoder"), None).tokenizer()
    set_template(tokenizer, None, True)
    for row in read_conversations(str(place / "talk.jsonl")).train:
        marked = tokenizer.apply_chat_template(row.messages, return_dict=True, return_assistant_tokens_mask=True)
        encoded = encode(tokenizer, row.messages)
        assert np.flatnonzero(marked["assistant_masks"]).tolist() == encoded.answers
        text = tokenizer.decode([encoded.ids[place] for place in encoded.answers])
        answers = [f" {item['content']}[SEP]" for item in row.messages if item["role"] == "assistant"]
        assert text.replace(" [SEP]", "[SEP]") == "".join(answers)


def test_trl_alone_leaves_out_the_prediction_head_and_ours_does_not(place: Path) -> None:
    from trl.trainer.utils import add_fused_lm_head

    model = open_tuned(str(place / "decoder"), None).load().eval().requires_grad_(False)
    ids = torch.arange(6, 26)[None]
    expected = float(model(input_ids=ids, labels=ids).loss.detach())
    add_fused_lm_head(model)
    assert abs(float(model(input_ids=ids, labels=ids, fused_lm_head=True).loss - expected)) > 0.01
    with pytest.raises(UserError, match="as TRL computes it"):
        trainers._check_loss(model)
    trainers.with_whole_head(model)
    assert float(model(input_ids=ids, labels=ids, fused_lm_head=True).loss) == pytest.approx(expected, abs=1e-5)
    assert float(model(input_ids=ids, labels=ids).loss) == pytest.approx(expected, abs=1e-6)


def test_packed_conversations_do_not_see_each_other(place: Path) -> None:
    model = open_tuned(str(place / "decoder"), None).load().eval()
    left, right = torch.arange(6, 16)[None], torch.arange(40, 64)[None]
    positions = torch.cat([torch.arange(10), torch.arange(24)])[None]
    packed = model(torch.cat([left, right], 1), position_ids=positions, use_cache=False).logits
    assert torch.allclose(packed[:, 10:], model(right).logits, atol=1e-5)


def test_a_row_without_a_split_is_held_out_by_its_prompt(place: Path, tmp_path: Path) -> None:
    rows = [
        {"messages": [message("user", f"Number {number // 2}?"), message("assistant", "Yes.")]} for number in range(800)
    ]
    data = read_conversations(str(write_rows(tmp_path / "talk.jsonl.gz", rows)))
    sides = [{row.messages[0]["content"] for row in side} for side in (data.train, data.held_out)]
    assert not sides[0] & sides[1] and 10 <= len(data.held_out) <= 60


MISTAKES: dict[str, tuple[Any, str]] = {
    "no messages": ([{"id": "a", "text": "x"}], r"row='.*:1' lacks a list of messages in the field 'messages'"),
    "roles": ([{"messages": [message("assistant", "a"), message("user", "b")]}], "has roles out of order"),
    "no answer": ([{"messages": [message("user", "b")]}], "has roles out of order"),
    "no content": ([{"messages": [{"role": "user"}]}], "has a message without role or content"),
    "repeated id": (
        [conversation(0), *(conversation(1) | {"id": name} for name in (1, "1"))],
        "has 2 rows with the id '1'",
    ),
    "empty split": ([conversation(1)], "has no row that is held out"),
    "no training": ([conversation(0)], "has no row that is train"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_bad_rows_are_named(name: str, tmp_path: Path) -> None:
    rows, expected = MISTAKES[name]
    file = write_rows(tmp_path / "bad.jsonl.gz", rows)
    with pytest.raises(UserError, match=expected):
        read_conversations(str(file))


def test_rows_without_an_id_are_numbered(tmp_path: Path) -> None:
    rows = [conversation(number) | {"id": None} for number in range(6)]
    assert [row.name for row in read_conversations(str(write_rows(tmp_path / "a.jsonl.gz", rows))).held_out] == [
        "0",
        "4",
    ]


def test_files_of_others_end_a_tuning_before_it_trains(
    request_of: SftRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainers, "run", None)
    for out in ("a", "b"):
        notes = tmp_path / ("a" if out == "a" else "b.training") / "notes.txt"
        write_rows(notes, [])
        with pytest.raises(UserError, match="sft did not write it|needs b.training, which no tuning wrote"):
            sft(replace(request_of, out=str(tmp_path / out)))
        assert notes.is_file()


def test_a_tuning_too_short_to_log_a_loss_may_diverge(request_of: SftRequest, tmp_path: Path) -> None:
    changes = {"learning_rate": 1e30, "warmup_share": 0.0, "max_rows": 4, "epochs": 3.0, "out": str(tmp_path / "out")}
    with pytest.raises(UserError, match="infinite or NaN"):
        sft(replace(request_of, **changes))
    assert not any(tmp_path.glob("out*"))


def test_bad_preferences_are_named(tmp_path: Path) -> None:
    same = preference(1) | {"rejected": preference(1)["chosen"]}
    longer = preference(1) | {"chosen": preference(1)["chosen"] * 2}
    for row, expected in ((same, "prefers an answer to itself"), (longer, "roles out of order"), ({}, "'prompt'")):
        with pytest.raises(UserError, match=expected):
            read_preferences(str(write_rows(tmp_path / "bad.jsonl.gz", [row])))


def test_what_cannot_be_tuned_ends_in_one_line(
    request_of: SftRequest, lora: TuningResult, place: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.jinja"
    plain.write_text("{% for message in messages %}{{ message['content'] + eos_token }}{% endfor %}")
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"template": str(plain)}, "has no generation block, which assistant_only=true needs"),
        ({"template": str(tmp_path / "none")}, "is not a file"),
        ({"model": str(place / "encoder")}, "packing=True would let the conversations of a row see each other"),
        ({"model": str(place / "encoder"), "packing": False, "assistant_only": False}, "an encoder fills the answers"),
        ({"model": str(lora.folder / "adapter"), "base": str(place / "full")}, "is an adapter for another base"),
        ({"model": str(lora.folder / "adapter"), "method": "lora"}, "would be an adapter on top of an adapter"),
        ({"base": str(place / "decoder")}, "belongs to an adapter"),
        ({"max_length": 4096}, "is beyond the"),
        ({"max_length": 8}, "is too short for any of the"),
        ({"conversations": str(tmp_path / "none.jsonl")}, "is not a file"),
    ]
    for number, (changes, expected) in enumerate(mistakes):
        with pytest.raises(UserError, match=expected) as caught:
            sft(replace(request_of, out=str(tmp_path / f"out{number}"), **changes))
        assert "\n" not in str(caught.value) and not (tmp_path / f"out{number}").exists()
    for changes, expected in (({"method": "qlora"}, "is unknown"), ({"batch": 0}, "is not positive")):
        with pytest.raises(UserError, match=expected):
            replace(request_of, **changes)


def test_a_missing_package_is_named(request_of: SftRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "trl" else object())
    with pytest.raises(UserError, match=r"package='trl' is not installed; run pip install .*\[chat\]"):
        sft(request_of)


def test_nats_do_not_depend_on_the_batch(place: Path) -> None:
    model = open_tuned(str(place / "decoder"), None)
    tokenizer = model.tokenizer()
    set_template(tokenizer, None, True)
    rows = [encode(tokenizer, row.messages) for row in read_conversations(str(place / "talk.jsonl")).held_out]
    loaded = model.load()
    assert scoring.nats(loaded, rows, 1) == pytest.approx(scoring.nats(loaded, rows), abs=1e-4)


def test_the_recipes_of_the_page_run(place: Path, tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "chat.md").read_text()
    block = re.search(r"```bash\n(.*?)```", page, re.S)
    assert block is not None
    for name, target in (("my_decoder", "decoder"), ("talk.jsonl", "talk.jsonl"), ("choices.jsonl", "choices.jsonl")):
        (tmp_path / name).symlink_to(place / target)
    for command in block[1].strip().splitlines():
        _, _, module, *arguments = command.split()
        smaller = ["max_length=80", "device=cpu"] if module.startswith("experiments.") else []
        done = processes.run(tmp_path, module, *arguments, *smaller)
        assert done.returncode == 0, f"{command}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
    assert "chat: talk" in done.stdout
