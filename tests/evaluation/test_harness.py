"""Our model class and offline tasks in lm-evaluation-harness: against its own `hf`, and against definitions written out."""

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForMaskedLM

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation import harness
from ettin_core.evaluation.pretrained import open_pretrained
from ettin_core.foundation.storage import read_json, write_json
from ettin_core.interop.huggingface import export
from ettin_core.records.folders import RunFolder
from ettin_core.studies.run_jobs import export_stage
from tests.evaluation.test_estimators import tiny
from tests.evaluation.test_pretrained import naive
from tests.runs import tiny_run, train_tiny

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

ROOT = Path(__file__).resolve().parents[2]
QUESTION = {"question": "Where is the key", "choices": ["near the box", "late"], "answer": 0}
SETS: dict[str, list[dict[str, Any]]] = {
    "mc/arc_easy.jsonl.gz": [
        QUESTION | {"split": split, "answer": n % 2} for n in range(6) for split in ("train", "test")
    ],
    "mc/hellaswag.jsonl.gz": [
        {"split": "validation", "context": "[header] A nurse", "choices": ["was late.", "is [x] here."], "answer": 1}
    ]
    * 3,
    "mc/winogrande.jsonl.gz": [
        {"split": "validation", "contexts": ["The nurse", "The old key"], "continuation": "was late.", "answer": 0}
    ]
    * 3,
    "mc/copa.jsonl.gz": [
        {
            "split": split,
            "premise": "She left.",
            "asks_for": "cause",
            "choices": ["It rained.", "He came."],
            "answer": 1,
        }
        for split in ("train", "validation") * 3
    ],
    "mc/boolq.jsonl.gz": [
        {"split": "validation", "passage": "It was late. " * 40, "question": "was it late", "answer": 1}
    ]
    * 3,
    "gen/lambada_openai.jsonl.gz": [{"split": "test", "context": "The nurse was", "target": "late"}] * 3,
    "gen/triviaqa_3k.jsonl.gz": [{"split": "test", "question": "Who was late?", "aliases": ["nurse", "the nurse"]}] * 3,
    "probing/blimp.jsonl.gz": [
        {"UID": uid, "good": "The keys were old.", "bad": "The keys was old."} for uid in ("wh_island", "passive_1") * 3
    ],
}
TASKS = ["arc_easy", "hellaswag", "winogrande", "copa", "boolq", "lambada_openai", "triviaqa", "blimp_wh_island"]
OFFLINE = [f"offline_{task}" for task in TASKS]


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    harness.register()


@pytest.fixture(scope="module")
def eval_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small sets of the right form."""
    root = tmp_path_factory.mktemp("sets")
    for name, rows in SETS.items():
        (root / name).parent.mkdir(exist_ok=True)
        with gzip.open(root / name, "wt") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in rows)
    return root


@pytest.fixture(scope="module")
def folders(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A transformers folder for each objective."""
    root = tmp_path_factory.mktemp("exports")
    folders = {}
    for objective in ("clm", "mlm", "mntp"):
        model = tiny(corpus, objective)
        facts = {"objective": objective, "run": f"tiny-{objective}-s3-abc1234567", "checkpoint": "decay7"}
        folders[objective] = export(model.model, model.view, corpus.tokenizer.folder, root / objective, 128, facts)
    return folders


def evaluate(model: str, folder: Path, eval_data: Path | str, tasks: list[Any], **options: Any) -> dict[str, Any]:
    """The harness's results."""
    from lm_eval import simple_evaluate

    arguments = {"pretrained": str(folder), **options.pop("model_args", {})}
    return simple_evaluate(
        model=model,
        model_args=arguments,
        tasks=tasks,
        task_manager=harness.task_manager(str(eval_data)),
        device="cpu",
        bootstrap_iters=options.pop("bootstrap_iters", 0),
        gen_kwargs="max_gen_toks=6",
        **options,
    )


def responses(results: dict[str, Any]) -> dict[str, list[Any]]:
    """What the model answered to each item."""
    return {task: [sample["resps"] for sample in samples] for task, samples in results["samples"].items()}


def test_a_decoder_is_the_harness_own_hf_in_all_digits(folders: dict[str, Path], eval_data: Path) -> None:
    ours, theirs = (evaluate(name, folders["clm"], eval_data, OFFLINE, batch_size=4) for name in ("ettin", "hf"))
    assert responses(ours) == responses(theirs)
    assert ours["results"] == theirs["results"]
    assert set(ours["results"]) == set(OFFLINE)


def test_blimp_is_asked_with_and_without_the_space_before_a_sentence(tmp_path: Path) -> None:
    paradigms = sorted(file.stem for file in (harness.TASKS / "blimp").glob("[!_]*.yaml"))
    rows = [{"UID": name, "pairID": "0", "good": f"Good {name}.", "bad": f"Bad {name}."} for name in paradigms]
    (tmp_path / "probing").mkdir()
    (tmp_path / "probing/blimp.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked: dict[str, list[str]] = {}
    for group in ("offline_blimp", "offline_blimp_plain"):
        for task in harness.task_manager(str(tmp_path)).load([group])["tasks"].values():
            task.build_all_requests()
            asked.setdefault(group, []).extend(request.args[1] for request in task.instances)
    plain = [f"{kind} {name}." for name in paradigms for kind in ("Good", "Bad")]
    assert sorted(asked["offline_blimp_plain"]) == sorted(plain) and len(plain) == 134
    assert sorted(asked["offline_blimp"]) == sorted(f" {text}" for text in plain)


@pytest.mark.slow
def test_a_decoder_is_hf_on_the_real_sets(folders: dict[str, Path], real_data: Path) -> None:
    names = [file.stem for file in harness.TASKS.glob("*.yaml")]
    tasks = [f"offline_{name}" for name in names] + ["offline_blimp_wh_island"]
    ours, theirs = (
        evaluate(name, folders["clm"], real_data / "eval", tasks, batch_size=16, limit=20) for name in ("ettin", "hf")
    )
    assert len(tasks) == 13
    assert responses(ours) == responses(theirs)
    assert ours["results"] == theirs["results"]


@pytest.mark.parametrize("objective", ["mlm", "mntp"])
def test_an_encoder_is_asked_for_the_naive_definition(
    objective: str, folders: dict[str, Path], eval_data: Path
) -> None:
    tasks = ["offline_hellaswag", "offline_lambada_openai", "offline_blimp_wh_island"]
    results = evaluate("ettin", folders[objective], eval_data, tasks)
    model = open_pretrained(str(folders[objective]), device="cpu")
    for samples in results["samples"].values():
        sample = samples[0]
        for arguments, answer in zip(sample["arguments"], sample["filtered_resps"], strict=True):
            (asked,) = model.log_probability([arguments])
            assert answer[0] == pytest.approx(naive(folders[objective], model, *arguments), abs=1e-5 * asked.tokens)


@pytest.mark.parametrize(
    ("objective", "protocol"),
    [("clm", "conditional"), ("mlm", "masked_left_to_right"), ("mntp", "pseudo_likelihood")],
)
def test_scores_are_equal_for_any_batch_size(
    objective: str, protocol: str, folders: dict[str, Path], eval_data: Path
) -> None:
    by_size = []
    for size in (1, 7, 64):
        results = evaluate(
            "ettin", folders[objective], eval_data, OFFLINE, batch_size=size, model_args={"protocol": protocol}
        )
        assert results["config"]["ettin"]["protocol"] == protocol
        by_size.append(responses(results))
    for of_size in by_size[1:]:
        for task, items in by_size[0].items():
            for left, right in zip(items, of_size[task], strict=True):
                for (first, *_), (second, *_) in zip(left, right, strict=True):
                    assert first == second if isinstance(first, str) else first[0] == pytest.approx(second[0], abs=1e-4)


def model_of(folder: Path, **options: Any) -> Any:
    """The model class itself."""
    from ettin_core.evaluation.harness.model import EttinLM

    return EttinLM(str(folder), device="cpu", **options)


def request(kind: str, *arguments: Any) -> Any:
    """One request of the harness."""
    from lm_eval.api.instance import Instance

    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0, metadata=("task", 0, 1))


@pytest.mark.parametrize("objective", ["mlm", "mntp"])
def test_an_encoder_writes_by_filling_the_first_mask(objective: str, corpus: Corpus, folders: dict[str, Path]) -> None:
    plain = AutoModelForMaskedLM.from_pretrained(folders[objective]).eval()
    special, contexts = corpus.tokenizer.special, ["The nurse was", "On Monday, the old key", "A"]
    expected = []
    for context in contexts:
        row = [special.bos, *corpus.tokenizer.encode([context])[0]]
        begin = len(row)
        with torch.no_grad():
            for _ in range(5):
                logits = plain(input_ids=torch.tensor([[*row, *[special.mask] * 3, special.eos]])).logits[0]
                token = int(logits[len(row) - (objective == "mntp")].argmax())
                if token == special.eos:
                    break
                row.append(token)
        expected.append(corpus.tokenizer.decode(row[begin:]))
    asked = [request("generate_until", context, {"until": ["\n\n"], "max_gen_toks": 5}) for context in contexts]
    model = model_of(folders[objective])
    assert model.generate_until(asked, disable_tqdm=True) == expected
    stop = expected[0][1:3]
    stopped = model.generate_until(
        [request("generate_until", contexts[0], {"until": [stop], "max_gen_toks": 5})], disable_tqdm=True
    )
    assert stopped == [expected[0].split(stop)[0]]
    with pytest.raises(ValueError, match="asks for sampling"):
        model.generate_until([request("generate_until", "A", {"do_sample": True, "temperature": 1.0})])
    with pytest.raises(ValueError, match="max_gen_toks=128 leaves no token for a context"):
        model.generate_until([request("generate_until", "A", {"max_gen_toks": 128})])


def test_rolling_perplexity_of_both_kinds(folders: dict[str, Path]) -> None:
    from lm_eval.models.huggingface import HFLM

    text = "The nurse was late, and the old key near the box was gone. " * 12
    asked = [request("loglikelihood_rolling", text), request("loglikelihood_rolling", "")]
    causal, masked = model_of(folders["clm"]), model_of(folders["mlm"])
    theirs = HFLM(str(folders["clm"]), device="cpu", add_bos_token=False, batch_size=64)
    assert causal.loglikelihood_rolling(asked) == theirs.loglikelihood_rolling(asked)
    native = open_pretrained(str(folders["clm"]), device="cpu")
    (whole,) = native.log_probability([("", text)])  # the same windows, by the one interface
    assert whole.tokens > native.context
    assert causal.loglikelihood_rolling(asked) == pytest.approx([whole.log_probability, 0.0], abs=1e-3)
    (score,) = open_pretrained(str(folders["mlm"]), device="cpu").log_probability([("", text)])
    assert score.tokens == whole.tokens
    assert masked.loglikelihood_rolling(asked) == pytest.approx([score.log_probability, 0.0], abs=1e-3)


def test_a_pair_is_cut_where_the_harness_cuts_it(folders: dict[str, Path]) -> None:
    from ettin_core.evaluation.scoring import split_pair

    model, native = model_of(folders["clm"]), open_pretrained(str(folders["clm"]), device="cpu")
    for pair in [("The nurse", " was late."), ("The nurse ", "was late."), ("The nur", "se was"), ("a", " b  c")]:
        before, after = model._encode_pair(*pair)
        text, places, _ = split_pair(native.tokenizer, *pair)
        assert [native.tokenizer.special.bos, *text.ids[: places[0]]] == before
        assert [text.ids[place] for place in places] == after


@pytest.mark.parametrize("objective", ["clm", "mlm"])
def test_bad_requests(objective: str, folders: dict[str, Path]) -> None:
    model = model_of(folders[objective])
    with pytest.raises(ValueError, match="continuation='' of task 'task' is empty"):
        model.loglikelihood([request("loglikelihood", "The nurse", "")])
    with pytest.raises(ValueError, match="tokens' do not fit into the window of 128"):
        model.loglikelihood([request("loglikelihood", "The nurse", " was late." * 80)])
    ((empty, _),) = model.loglikelihood([request("loglikelihood", "", "The nurse")], disable_tqdm=True)
    (expected,) = open_pretrained(str(folders[objective]), device="cpu").log_probability([("", "The nurse")])
    assert empty == pytest.approx(expected.log_probability, abs=1e-4)
    with pytest.raises(ValueError, match="protocol='guess' is not defined for this model"):
        model_of(folders[objective], protocol="guess")


ODD = {
    "special": ("The [SEP] near the [MASK]", [" was late.", " [MASK]."]),
    "begins": ("[CLS] The nurse", [" was late.", " was [PAD]."]),
    "fused": ("The nur", ["se was late.", "sery was late."]),
    "blank": (" \n", ["The nurse was late.", "A nurse was late."]),
}


def odd_tasks(folder: Path) -> Any:
    """A manager of tasks with one odd item each."""
    from lm_eval.tasks import TaskManager

    for name, (context, choices) in ODD.items():
        row = {"ctx": context, "choices": choices, "gold": 0}
        (folder / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
        task = {
            "task": f"odd_{name}",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
            "output_type": "multiple_choice",
            "test_split": "test",
            "doc_to_text": "{{ctx}}",
            "doc_to_choice": "choices",
            "doc_to_target": "gold",
            "target_delimiter": "",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task))
    return TaskManager(include_path=str(folder), include_defaults=False)


def without_bos(folder: Path, out: Path) -> Path:
    """A copy of a transformers folder whose tokenizer adds nothing to a text, and has no BOS, as GPT-2's."""
    shutil.copytree(folder, out)
    tokenizer = json.loads((out / "tokenizer.json").read_text())
    (out / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": None}))
    config = json.loads((out / "tokenizer_config.json").read_text())
    kept = {name: value for name, value in config.items() if name not in ("bos_token", "cls_token")}
    (out / "tokenizer_config.json").write_text(json.dumps(kept))
    (out / "special_tokens_map.json").unlink()
    return out


@pytest.mark.parametrize("objective", ["clm", "mlm", "no bos"])
def test_odd_texts_are_the_same_tokens_for_every_member_and_counted(
    objective: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    from lm_eval import simple_evaluate

    from ettin_core.evaluation.harness.records import measurements

    folder = folders.get(objective) or without_bos(folders["clm"], tmp_path / "model")
    manager, names = odd_tasks(tmp_path), [f"odd_{name}" for name in ODD]
    arguments = {"pretrained": str(folder)}
    results = simple_evaluate("ettin", arguments, names, task_manager=manager, device="cpu", bootstrap_iters=0)
    counts = {kind: results["config"]["ettin"][kind] for kind in ("literal_special_tokens", "fused_continuations")}
    assert counts == {
        "literal_special_tokens": {"odd_special": 1, "odd_begins": 1},
        "fused_continuations": {"odd_fused": 1},
    }
    records = {row.task: row.provenance for row in measurements(results)}
    assert [records[name]["literal_special_tokens"] for name in names] == [1, 1, 0, 0]
    assert [records[name]["fused_continuations"] for name in names] == [0, 0, 1, 0]
    native = open_pretrained(str(folder), device="cpu")
    asked = [(ODD[name][0], choice) for name in ("special", "begins", "blank") for choice in ODD[name][1]]
    if objective == "no bos":  # `hf` begins a row with BOS only where a tokenizer adds it: the blank context is left
        asked = asked[-2:]
    answers = {
        tuple(sample["arguments"][number]): response[0]
        for samples in results["samples"].values()
        for sample in samples
        for number, response in enumerate(sample["filtered_resps"])
    }
    for pair, score in zip(asked, native.log_probability(asked), strict=True):
        assert answers[pair] == pytest.approx(score.log_probability, abs=1e-4), pair
    fused = native.log_probability([("The nur", "se was late."), ("The nurse", " was late.")])
    assert [score.fused for score in fused] == [True, False]


def test_a_decoder_writes_after_letters_and_after_nothing(folders: dict[str, Path], tmp_path: Path) -> None:
    from lm_eval.models.huggingface import HFLM

    texts = ["The nurse was", "[CLS] A nurse", "[MASK]"]
    model, theirs = model_of(folders["clm"]), HFLM(str(folders["clm"]), device="cpu")
    ids, mask = model.tok_batch_encode(texts)
    special = open_pretrained(str(folders["clm"]), device="cpu").tokenizer.special
    assert (ids == special.mask).sum() == 0
    assert [row[real.bool()][0].item() for row, real in zip(ids, mask, strict=True)] == [special.bos] * 3
    for side in ("left", "right"):
        plain = texts[:1] + ["The old key near the box"]
        for left, right in zip(
            model.tok_batch_encode(plain, side, 4), theirs.tok_batch_encode(plain, side, 4), strict=True
        ):
            assert left.tolist() == right.tolist()
    bare = model_of(without_bos(folders["clm"], tmp_path / "model"))
    (text,) = bare.generate_until([request("generate_until", "", {"until": ["\n"], "max_gen_toks": 3})], True)
    assert isinstance(text, str)


def test_a_chat_template_writes_special_tokens_on_purpose(folders: dict[str, Path]) -> None:
    for objective in ("clm", "mlm"):
        model = model_of(folders[objective])
        model.tokenizer.chat_template = "{% for m in messages %}[SEP]{{ m.content }}{% endfor %}"
        text = model.apply_chat_template([{"role": "user", "content": "Who was late?"}])
        eos = model.tokenizer.eos_token_id
        assert text == "[SEP]Who was late?" and model.tok_encode(text).count(eos) >= 1
        if model.evaluated_model is not None:
            assert model.evaluated_model.tokenizer.encode([text])[0][0] == eos


def test_bad_tasks(eval_data: Path, folders: dict[str, Path], tmp_path: Path) -> None:
    tasks = harness.task_manager(None)
    with pytest.raises(ValueError, match="eval_data=None is not a folder"):
        tasks.load(["offline_piqa"])
    with pytest.raises(ValueError, match="lacks mc/piqa.jsonl.gz"):
        harness.task_manager(str(eval_data)).load(["offline_piqa"])
    (tmp_path / "bad.yaml").write_text("task: bad\ndataset_path: json\noutput_type: loglikelihood\nprompt: x\n")
    with pytest.raises(TypeError) as caught:
        from lm_eval.tasks import TaskManager

        TaskManager(include_path=str(tmp_path), include_defaults=False).load(["bad"])
    assert "task file='prompt' is not a field of a task" in str(harness.explained(caught.value))
    message = str(harness.explained(ValueError("Tasks not found: x")))
    assert message == "tasks='x' are not known; see `python -m experiments.harness ls tasks`."
    offline = ConnectionError("Couldn't reach 'allenai/ai2_arc' on the Hub (OfflineModeIsEnabled)")
    assert "use offline_<task> with --metadata eval_data=" in str(harness.explained(offline))


BUILT_IN = {
    "arc_easy": "arc/arc_easy",
    "hellaswag": "hellaswag/hellaswag",
    "lambada_openai": "lambada/lambada_openai",
    "openbookqa": "openbookqa/openbookqa",
    "piqa": "piqa/piqa",
    "siqa": "siqa/siqa",
    "triviaqa": "triviaqa/default",
    "winogrande": "winogrande/default",
    "wsc273": "wsc273/default",
    "boolq": "super_glue/boolq/default",
    "copa": "super_glue/copa/default",
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_metrics_and_settings_are_those_of_the_built_in_task(name: str) -> None:
    import lm_eval.tasks
    from lm_eval.tasks._yaml_loader import load_yaml

    theirs = load_yaml(Path(lm_eval.tasks.__file__).parent / f"{BUILT_IN[name]}.yaml", resolve_func=False)
    ours = load_yaml(harness.TASKS / f"{name}.yaml", resolve_func=False)
    for field in ("output_type", "generation_kwargs", "filter_list", "target_delimiter", "num_fewshot"):
        default = " " if field == "target_delimiter" else None
        assert ours.get(field, default) == theirs.get(field, default), field
    if name != "siqa":
        assert float(ours["metadata"]["version"]) == float(theirs["metadata"]["version"])
    wanted = [{"aggregation": "mean", "higher_is_better": True} | metric for metric in theirs["metric_list"]]
    assert ours["metric_list"] == wanted
    prompt = {"siqa": "Q: {{context}} {{question}}\nA:", "piqa": "Question: {{goal}}\nAnswer:"}.get(name)
    if prompt is not None:
        assert theirs["doc_to_text"] == prompt  # what ours spells with the set's own fields
    elif name in ("arc_easy", "triviaqa", "boolq"):
        assert ours["doc_to_text"] == theirs["doc_to_text"]


def test_offline_blimp_is_all_67_paradigms_and_their_mean(folders: dict[str, Path], eval_data: Path) -> None:
    manager = harness.task_manager(str(eval_data))
    assert sum(name.startswith("offline_blimp_") for name in manager.all_subtasks) == 67
    assert manager.all_groups == ["offline_blimp", "offline_blimp_plain"]


def test_results_become_measurements(folders: dict[str, Path], eval_data: Path, tmp_path: Path) -> None:
    from lm_eval.utils import handle_non_serializable

    from ettin_core.evaluation.harness.records import measurements, record

    results = evaluate("ettin", folders["mlm"], eval_data, ["offline_arc_easy"], bootstrap_iters=100)
    results.pop("samples")
    file = tmp_path / "results_now.json"
    file.write_text(json.dumps(results, default=handle_non_serializable))
    rows = [json.loads(line) for line in record(file).read_text().splitlines()]
    assert [row["metric"] for row in rows] == ["acc", "acc_norm"]
    row = rows[0]
    assert (row["run"], row["member"], row["size"], row["seed"]) == ("tiny-mlm-s3-abc1234567", "mlm", "tiny", 3)
    assert (row["protocol"], row["version"], row["checkpoint"]) == ("lm_eval.masked_left_to_right", 1, "decay7")
    assert row["value"] == results["results"]["offline_arc_easy"]["acc,none"]
    assert row["n"] == 6 and row["standard_error"] > 0
    origin = row["provenance"]
    assert len(origin["weights"]) == len(origin["data"]) == 64 and origin["libraries"]["lm-eval"]
    assert origin["task_version"] == 1.0
    foreign = {key: value for key, value in results.items() if key != "config"} | {"config": {"model": "hf"}}
    with pytest.raises(ValueError, match="does not record its checkpoint"):
        measurements(foreign)


@pytest.fixture(scope="module")
def run(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    """A trained run."""
    yield train_tiny(tiny_run(corpus, "encoder"), tmp_path_factory.mktemp("runs"), corpus)


def test_a_run_of_ours_is_exported_once(run: RunFolder, corpora_dir: Path) -> None:
    model = model_of(run.path, corpora_dir=str(corpora_dir))
    out = run.path / "hf"
    stamp = (out / "config.json").stat().st_mtime_ns
    assert model.facts["run"] == run.name and model.facts["checkpoint"] == run.summary()["final_checkpoint"]
    model_of(run.path, corpora_dir=str(corpora_dir))
    assert export_stage(run.path, corpora_dir) == str(out), "a study finds what the harness wrote"
    assert (out / "config.json").stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match="corpora_dir='nowhere' does not hold the run's corpus"):
        model_of(run.path, corpora_dir="nowhere")


def test_exports_of_a_run_do_not_overwrite_each_other(run: RunFolder, corpora_dir: Path) -> None:
    """An earlier checkpoint has a separate folder; what earlier versions wrote below hf/ stays there."""
    shutil.rmtree(run.path / "hf", ignore_errors=True)
    (run.path / "hf" / "step12").mkdir(parents=True)
    (run.path / "hf" / "step12" / "config.json").write_text("{}")
    assert model_of(run.path, revision="step12", corpora_dir=str(corpora_dir)).facts["checkpoint"] == "step12"
    export_stage(run.path, corpora_dir)
    checkpoints = {path.name: read_json(path / "ettin.json")["checkpoint"] for path in run.path.glob("hf*")}
    assert checkpoints == {"hf": run.summary()["final_checkpoint"], "hf@step12": "step12"}
    assert (run.path / "hf" / "step12" / "config.json").read_text() == "{}"


def test_an_export_of_other_weights_is_written_again(run: RunFolder, corpora_dir: Path) -> None:
    export_stage(run.path, corpora_dir)
    facts = read_json(run.path / "hf" / "ettin.json")
    write_json(run.path / "hf" / "ettin.json", facts | {"tensors": "another"})
    export_stage(run.path, corpora_dir)
    assert read_json(run.path / "hf" / "ettin.json") == facts


@pytest.mark.slow
def test_the_command_line_is_the_harness_own(folders: dict[str, Path], eval_data: Path, tmp_path: Path) -> None:
    arguments = ["--model_args", f"pretrained={folders['mlm']}", "--device", "cpu", "--tasks", "offline_arc_easy"]
    arguments += ["--metadata", f"eval_data={eval_data}", "--output_path", str(tmp_path)]
    command = [sys.executable, "-m", "experiments.harness", "run", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "offline_arc_easy" in done.stdout
    assert len(list(tmp_path.rglob("results_*.json"))) == len(list(tmp_path.rglob("measurements_*.jsonl"))) == 1
