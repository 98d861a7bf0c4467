"""Hugging Face models behind the one interface, against the native model and against the definitions written out."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel
from transformers import PreTrainedTokenizerFast as FastTokenizer

from ettin_core.data.corpus import Corpus
from ettin_core.evaluation.evaluated_model import EvaluatedModel
from ettin_core.evaluation.pretrained import PretrainedBody, body_of, load_model, open_pretrained
from ettin_core.evaluation.scoring import score, split_pair
from ettin_core.interop.huggingface import TOKENIZER_FILES, export
from ettin_core.model.transformer import Transformer
from ettin_core.records.readout import KNOWN
from experiments import benchmark_scoring
from tests.evaluation.test_estimators import tiny

PAIRS = [
    ("The nurse was", " late."),
    ("The nurse was", " late again, and so was"),
    ("", "On Monday"),
    ("The keys near the box ", "were gone."),
]
PROTOCOLS = [
    ("clm", "conditional"),
    ("mlm", "masked_left_to_right"),
    ("mntp", "masked_left_to_right"),
    ("mlm", "pseudo_likelihood"),
    ("mntp", "pseudo_likelihood"),
]


@pytest.fixture(scope="module")
def folders(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A transformers folder for each objective, with a window of 64."""
    root = tmp_path_factory.mktemp("exports")
    folders = {}
    for objective in ("clm", "mlm", "mntp"):
        native = tiny(corpus, objective)
        facts = {"objective": objective, "run": f"tiny-{objective}-s3-abc1234567", "checkpoint": "decay7"}
        folders[objective] = export(native.model, native.view, corpus.tokenizer.folder, root / objective, 64, facts)
    return folders


def values(model: EvaluatedModel, pairs: Sequence[tuple[str, str]], protocol: str | None = None) -> list[float]:
    """The log-probabilities alone."""
    return [result.log_probability for result in model.log_probability(pairs, protocol)]


@pytest.mark.parametrize(("objective", "protocol"), PROTOCOLS)
def test_an_exported_model_answers_as_the_native_one(
    objective: str, protocol: str, corpus: Corpus, folders: dict[str, Path]
) -> None:
    native, pretrained = tiny(corpus, objective), open_pretrained(str(folders[objective]), device="cpu")
    assert (pretrained.reading.name, pretrained.context) == (objective, 64)
    assert pretrained.tokenizer.special == corpus.tokenizer.special
    assert values(pretrained, PAIRS, protocol) == pytest.approx(values(native, PAIRS, protocol), abs=1e-4)
    for left, right in zip(
        pretrained.log_probability(PAIRS, protocol), native.log_probability(PAIRS, protocol), strict=True
    ):
        assert (left.tokens, left.greedy) == (right.tokens, right.greedy)


@pytest.mark.parametrize(
    ("objective", "names"),
    [("clm", ["shared", "batched", "one at a time"]), ("mlm", ["batched", "one at a time"])],
)
def test_the_sides_of_the_benchmark_answer_alike(objective: str, names: list[str], folders: dict[str, Path]) -> None:
    model, peer = benchmark_scoring.load_both(str(folders[objective]))
    pairs = [split_pair(model.tokenizer, *pair) for pair in PAIRS]
    sides = benchmark_scoring.sides_of(model, peer)
    first, *others = [side(pairs) for side in sides.values()]
    assert list(sides) == names and all(values == pytest.approx(first, abs=1e-4) for values in others)


@pytest.mark.parametrize(("objective", "protocol"), PROTOCOLS)
def test_scores_are_equal_for_any_batch_size(objective: str, protocol: str, folders: dict[str, Path]) -> None:
    model = open_pretrained(str(folders[objective]), device="cpu")
    scores = []
    for rows in (1, 7, 64):
        model.batch_rows = rows
        scores.append(values(model, PAIRS, protocol))
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert scores[0] == pytest.approx(scores[2], abs=1e-5)


def test_threads_share_out_batches_and_change_nothing(folders: dict[str, Path]) -> None:
    model = open_pretrained(str(folders["mlm"]), device="cpu", batch_rows=2)
    before = torch.get_num_threads()
    scores, vectors = [], []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            scores.append(values(model, PAIRS, "masked_left_to_right"))
            vectors.append(model.embed([text for pair in PAIRS for text in pair if text]))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert scores[0] == scores[1] and (vectors[0] == vectors[1]).all()


@torch.no_grad()
def naive(folder: Path, model: EvaluatedModel, context: str, continuation: str) -> float:
    """Trailing masks, one token of one request at a time, with the plain transformers model."""
    plain = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()
    special = model.tokenizer.special
    (whole,), (before,) = model.tokenizer.encode([context + continuation]), model.tokenizer.encode([context.rstrip()])
    total = 0.0
    for place in range(len(before), len(whole)):
        row = [special.bos, *whole[:place], special.mask, special.mask, special.mask, special.eos]
        logits = plain(input_ids=torch.tensor([row])).logits[0]
        read = place + 1 if model.reading.name == "mlm" else place
        total += float(logits[read].double().log_softmax(-1)[whole[place]])
    return total


@pytest.mark.parametrize("objective", ["mlm", "mntp"])
def test_masked_left_to_right_is_the_naive_definition(objective: str, folders: dict[str, Path]) -> None:
    model = open_pretrained(str(folders[objective]), device="cpu")
    expected = [naive(folders[objective], model, *pair) for pair in PAIRS]
    assert values(model, PAIRS) == pytest.approx(expected, abs=1e-5 * 10)  # sums of up to ten terms
    tokens = [result.tokens for result in model.log_probability(PAIRS)]
    for value, wanted, count in zip(values(model, PAIRS), expected, tokens, strict=True):
        assert abs(value - wanted) / count < 1e-5


@pytest.mark.parametrize("objective", ["mlm", "mntp"])
@torch.inference_mode()
def test_a_modernbert_runs_on_our_transformer_with_its_own_weights(objective: str, folders: dict[str, Path]) -> None:
    model = load_model(folders[objective], causal=False)
    ours, view = body_of(model, KNOWN[objective])
    theirs = PretrainedBody(model)
    assert isinstance(ours, Transformer) and view is not None
    assert ours.embedding.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(5, 200, (3, 40), generator=generator)
    lengths = torch.tensor([[40], [31], [2]])
    positions = torch.arange(40).expand(3, 40)
    documents = torch.where(positions < lengths, torch.arange(3)[:, None], -1)
    read = torch.stack((torch.zeros(3, dtype=torch.int64), lengths[:, 0] - 1), dim=1)
    our_scores, their_scores = (
        body.logits(body(tokens, documents, positions, view, scored_positions=read).flatten(0, 1)).log_softmax(-1)
        for body in (ours, theirs)
    )
    assert float((our_scores - their_scores).abs().max()) < 1e-5


def test_a_modernbert_unlike_ours_runs_on_transformers_class(folders: dict[str, Path], tmp_path: Path) -> None:
    config = AutoModelForMaskedLM.from_pretrained(folders["mlm"]).config
    config.attention_bias = True
    torch.manual_seed(0)
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    for name in TOKENIZER_FILES:
        shutil.copy(folders["mlm"] / name, tmp_path)
    model = open_pretrained(str(tmp_path), device="cpu")
    assert isinstance(model.model, PretrainedBody)
    expected = [naive(tmp_path, model, *pair) for pair in PAIRS]
    assert values(model, PAIRS) == pytest.approx(expected, abs=1e-4)


def test_the_same_tokens_are_scored_for_both_kinds(folders: dict[str, Path]) -> None:
    counts = [
        [result.tokens for result in open_pretrained(str(folders[objective])).log_probability(PAIRS, protocol)]
        for objective, protocol in PROTOCOLS
    ]
    assert all(count == counts[0] for count in counts)


def test_spaces_that_end_a_context_belong_to_the_continuation(folders: dict[str, Path]) -> None:
    model = open_pretrained(str(folders["clm"]), device="cpu")
    text, places, _ = split_pair(model.tokenizer, "The keys ", "were gone.")
    assert model.tokenizer.decode([text.ids[place] for place in places]) == " were gone."


@pytest.mark.parametrize(("objective", "protocol"), PROTOCOLS)
def test_a_long_context_loses_its_oldest_tokens(objective: str, protocol: str, folders: dict[str, Path]) -> None:
    model = open_pretrained(str(folders[objective]), device="cpu")
    long = "It was late . " * 40
    assert values(model, [(long, " again.")], protocol) == values(model, [("She left . " + long, " again.")], protocol)


@pytest.mark.parametrize(("objective", "protocol"), PROTOCOLS)
def test_a_continuation_longer_than_the_window_is_scored_window_by_window(
    objective: str, protocol: str, folders: dict[str, Path]
) -> None:
    model = open_pretrained(str(folders[objective]), device="cpu")
    (result,) = model.log_probability([("She said", " it was late ." * 40)], protocol)
    assert result.tokens > model.context and np.isfinite(result.log_probability)


def test_windows_of_a_causal_model_are_written_out(folders: dict[str, Path]) -> None:
    model = open_pretrained(str(folders["clm"]), device="cpu")
    text, places, _ = split_pair(model.tokenizer, "", "the old key was late ." * 30)
    short = open_pretrained(str(folders["clm"]), device="cpu")
    short.context = 4
    bos, (a, b, c, d, e, *_) = model.tokenizer.special.bos, text.ids
    first = model.sums([_reading((bos, a, b, c), (0, 1, 2, 3), (a, b, c, d))])
    second = model.sums([_reading((b, c, d), (2,), (e,)), _reading((bos,), (), ())])
    (whole,) = score(short, [text], [places[:5]])
    # The second window keeps four tokens before its last prediction.
    wide = model.sums([_reading((a, b, c, d), (3,), (e,))])
    assert whole.log_probability == pytest.approx(first[0] + wide[0], abs=1e-5)
    assert whole.log_probability != pytest.approx(first[0] + second[0], abs=1e-5)


def _reading(*parts: Any) -> Any:
    from ettin_core.evaluation.requests import ScoringRequest

    return ScoringRequest(*parts)


@pytest.mark.parametrize("objective", ["clm", "mlm"])
@pytest.mark.parametrize("pooling", ["mean", "last", "first", "weighted"])
def test_vectors(objective: str, pooling: str, corpus: Corpus, folders: dict[str, Path]) -> None:
    texts = ["The nurse was late.", "A", "On Monday, the two old keys near the box were gone.", "A"]
    native, pretrained = tiny(corpus, objective), open_pretrained(str(folders[objective]), device="cpu")
    vectors = pretrained.embed(texts, pooling)
    assert vectors.shape == (4, 32) and (vectors[1] == vectors[3]).all()
    assert vectors == pytest.approx(native.embed(texts, pooling), abs=1e-4)
    special, (ids,) = corpus.tokenizer.special, corpus.tokenizer.encode(texts[:1])
    row = [special.bos, *ids] + ([special.eos] if objective == "mlm" else [])
    tokens = torch.tensor([row])
    with torch.no_grad():
        states = native.model(tokens, torch.zeros_like(tokens), torch.arange(len(row))[None], native.view)[0].numpy()
    weights = {
        "mean": np.ones(len(row)),
        "last": np.eye(len(row))[-1],
        "first": np.eye(len(row))[0],
        "weighted": np.arange(1, len(row) + 1),
    }[pooling]
    assert vectors[0] == pytest.approx(weights @ states / weights.sum(), abs=1e-4)
    with pytest.raises(ValueError, match="pooling='max' is not a pooling"):
        native.embed(texts, "max")


def word_tokenizer(special: dict[str, str], template: str | None) -> FastTokenizer:
    """A fast tokenizer of whole words."""
    names = [*dict.fromkeys(special.values()), "the", "old", "key", "was", "late"]
    backend = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token=names[0]))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if template:
        ids = [(name, names.index(name)) for name in template.split() if name != "$A"]
        backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    return FastTokenizer(tokenizer_object=backend, model_max_length=16, **special)


@pytest.fixture(scope="module")
def huggingface_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A BERT with its own tokenizer, and a GPT-2 whose tokenizer has one special token and no mask."""
    root = tmp_path_factory.mktemp("huggingface_models")
    torch.manual_seed(0)
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("unk", "cls", "sep", "pad", "mask")}
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertForMaskedLM(
        BertConfig(vocab_size=10, max_position_embeddings=16, initializer_range=0.5, **shape)
    ).save_pretrained(root / "bert")
    word_tokenizer(roles, "[CLS] $A [SEP]").save_pretrained(root / "bert")
    GPT2LMHeadModel(
        GPT2Config(vocab_size=6, n_positions=16, n_embd=16, n_layer=2, n_head=2, initializer_range=0.5)
    ).save_pretrained(root / "gpt2")
    word_tokenizer({"eos_token": "<end>", "bos_token": "<end>", "unk_token": "<end>"}, None).save_pretrained(
        root / "gpt2"
    )
    return {"bert": root / "bert", "gpt2": root / "gpt2"}


@torch.no_grad()
def test_a_bert_of_three_words_by_hand(huggingface_models: dict[str, Path]) -> None:
    plain = BertForMaskedLM.from_pretrained(huggingface_models["bert"]).eval()
    model = open_pretrained(str(huggingface_models["bert"]), device="cpu")
    assert (model.reading.name, model.context) == ("mlm", 16)
    cls, sep, mask, (the, old, key) = 1, 2, 4, (5, 6, 7)

    def term(row: list[int], position: int, target: int) -> float:
        return float(plain(input_ids=torch.tensor([row])).logits[0, position].double().log_softmax(-1)[target])

    left = term([cls, the, mask, mask, mask, sep], 2, old) + term([cls, the, old, mask, mask, mask, sep], 3, key)
    pseudo = term([cls, the, mask, key, sep], 2, old) + term([cls, the, old, mask, sep], 3, key)
    assert values(model, [("the", " old key")]) == pytest.approx([left], abs=1e-5)
    assert values(model, [("the", " old key")], "pseudo_likelihood") == pytest.approx([pseudo], abs=1e-5)
    mntp = open_pretrained(str(huggingface_models["bert"]), readout="mntp", device="cpu")
    shifted = term([cls, the, mask, mask, mask, sep], 1, old) + term([cls, the, old, mask, mask, mask, sep], 2, key)
    assert values(mntp, [("the", " old key")]) == pytest.approx([shifted], abs=1e-5)


@torch.no_grad()
def test_a_gpt2_of_three_words_by_hand(huggingface_models: dict[str, Path]) -> None:
    plain = GPT2LMHeadModel.from_pretrained(huggingface_models["gpt2"]).eval()
    model = open_pretrained(str(huggingface_models["gpt2"]), device="cpu")
    logits = plain(input_ids=torch.tensor([[0, 1, 2, 3]])).logits[0].double().log_softmax(-1)
    terms = [float(logits[0, 1]), float(logits[1, 2]), float(logits[2, 3])]
    pairs = [("the", " old key"), ("", "the old key"), ("the old", " key was late")]
    assert values(model, pairs)[:2] == pytest.approx([sum(terms[1:]), sum(terms)], abs=1e-5)
    assert model.embed(["the old key"], "last").shape == (1, 16)


def assert_error(match: str, source: Path | str, **options: Any) -> None:
    """One line that names what is wrong."""
    with pytest.raises(ValueError, match=match) as caught:
        open_pretrained(str(source), **options)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_opened(
    huggingface_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert_error(
        "nobody/nothing' is neither a folder nor a model .*give a transformers folder.*hf download", "nobody/nothing"
    )
    assert_error("has no mask token", huggingface_models["gpt2"], readout="mlm")
    assert_error("readout='both' is not a readout", huggingface_models["gpt2"], readout="both")
    assert_error("holds no weights", tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    assert_error("only pickled weights", tmp_path)
    (tmp_path / "model.safetensors").write_bytes((huggingface_models["gpt2"] / "model.safetensors").read_bytes())
    assert_error("holds no config.json", tmp_path)
    config = json.loads((huggingface_models["gpt2"] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["GPT2Model"]}))
    assert_error("no language-model head", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_error("holds no tokenizer.json, so no fast tokenizer", tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    assert_error("tokenizer=.* cannot be read", tmp_path)


def test_questions_that_cannot_be_asked(folders: dict[str, Path]) -> None:
    causal, masked = (open_pretrained(str(folders[name]), device="cpu") for name in ("clm", "mlm"))
    with pytest.raises(ValueError, match="'pseudo_likelihood' is not defined for a causal model; use conditional"):
        causal.log_probability(PAIRS, "pseudo_likelihood")
    with pytest.raises(ValueError, match="'conditional' is not defined for a masked model"):
        masked.log_probability(PAIRS, "conditional")
    with pytest.raises(ValueError, match="'guess' is not a protocol"):
        masked.log_probability(PAIRS, "guess")
    with pytest.raises(ValueError, match="continuation='' has no token of its own"):
        masked.log_probability([("The nurse", "")])
    assert masked.log_probability([]) == []
