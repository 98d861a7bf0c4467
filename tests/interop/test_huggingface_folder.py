"""Exported folders: they load without custom code, do their job and come back bitwise; wrong ones raise an error."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ettin_core.foundation.folders import MARK
from ettin_core.interop import huggingface
from ettin_core.interop.huggingface_config import ARCHITECTURE_OF, LAYOUT_OF, read_config
from ettin_core.model.config import AttentionSpec, ModelConfig
from ettin_core.model.transformer import Transformer
from tests.kills import killed_at_every_change

SMALL = ModelConfig(vocab_size=293, hidden_size=32, num_layers=4, num_heads=2, intermediate_size=48, local_window=8)
METADATA = {"run": "toy-0123", "objective": "mlm", "phases": [{"name": "pretrain"}]}
BOS, EOS, PAD, MASK = 1, 2, 3, 4


@pytest.fixture
def exported(
    random_model: Callable[..., Transformer], tokenizer_folder: Path, tmp_path: Path
) -> Callable[..., tuple[Transformer, Path]]:
    """`exported(direction)`: a random small model and the folder it was exported to."""

    def build(direction: str, config: ModelConfig = SMALL) -> tuple[Transformer, Path]:
        model = random_model(config)
        attention = AttentionSpec(direction, rope_base_global=160_000.0, rope_base_local=10_000.0)
        out = tmp_path / direction
        return model, huggingface.export(model, attention, tokenizer_folder, out, max_positions=512, metadata=METADATA)

    return build


def edit_config(folder: Path, **changes: Any) -> None:
    """Change fields of config.json; None removes one."""
    values = json.loads((folder / "config.json").read_text()) | changes
    kept = {key: value for key, value in values.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))


@pytest.mark.parametrize("direction", LAYOUT_OF)
def test_native_to_folder_to_native_is_bitwise(
    direction: str, exported: Callable[..., tuple[Transformer, Path]]
) -> None:
    model, folder = exported(direction)
    back, attention, facts = huggingface.load(folder)
    assert back.config == model.config
    assert attention == AttentionSpec(direction, rope_base_global=160_000.0, rope_base_local=10_000.0)
    assert facts == {"source": str(folder), "folder": str(folder), "max_positions": 512, "metadata": METADATA}
    state, again = model.state_dict(), back.state_dict()
    assert list(state) == list(again)
    assert all(torch.equal(state[name], again[name]) for name in state)
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in back.parameters())


@pytest.mark.parametrize("direction", LAYOUT_OF)
def test_a_folder_saved_again_by_transformers_comes_back_bitwise(
    direction: str, exported: Callable[..., tuple[Transformer, Path]], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    model, folder = exported(direction)
    auto = AutoModelForMaskedLM if direction == "bidirectional" else AutoModelForCausalLM
    theirs = auto.from_pretrained(folder)
    theirs.save_pretrained(tmp_path / "whole")
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    assert not (tmp_path / "shards" / "model.safetensors").exists()
    for again in ("whole", "shards"):
        back, attention, facts = huggingface.load(tmp_path / again)
        assert (back.config, attention.direction, facts["metadata"]) == (model.config, direction, {})
        assert all(torch.equal(tensor, back.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("direction", LAYOUT_OF)
def test_files_are_those_that_transformers_would_write(
    direction: str, exported: Callable[..., tuple[Transformer, Path]]
) -> None:
    _, folder = exported(direction)
    names = {MARK, "config.json", "model.safetensors", "ettin.json", "README.md", *huggingface.TOKENIZER_FILES}
    pooling = {"modules.json", "sentence_bert_config.json", "1_Pooling"}
    assert {path.name for path in folder.iterdir()} == names | pooling | (
        {"generation_config.json"} if direction == "causal" else set()
    )
    assert "decoder.weight" not in load_file(folder / "model.safetensors")


@pytest.mark.parametrize("direction", LAYOUT_OF)
def test_the_reloaded_config_says_what_we_meant(
    direction: str, exported: Callable[..., tuple[Transformer, Path]], tmp_path: Path
) -> None:
    from transformers import AutoConfig

    _, folder = exported(direction)
    first = AutoConfig.from_pretrained(folder)
    first.save_pretrained(tmp_path / "again")
    for config in (first, AutoConfig.from_pretrained(tmp_path / "again")):
        assert config.sliding_window == (8 if direction == "bidirectional" else 9)
        assert config.rope_parameters["full_attention"] == {"rope_type": "default", "rope_theta": 160_000.0}
        assert config.rope_parameters["sliding_attention"] == {"rope_type": "default", "rope_theta": 10_000.0}
        assert config.layer_types == ["full_attention", *["sliding_attention"] * 2, "full_attention"]
        assert config.tie_word_embeddings is True
        assert config.max_position_embeddings == 512
        ids = [config.bos_token_id, config.cls_token_id, config.eos_token_id, config.sep_token_id, config.pad_token_id]
        assert ids == [BOS, BOS, EOS, EOS, PAD]


def test_half_precision_is_kept_on_export_and_widened_on_import(
    random_model: Callable[..., Transformer], tokenizer_folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForMaskedLM

    model = random_model(SMALL).to(torch.bfloat16)
    folder = huggingface.export(model, AttentionSpec("bidirectional"), tokenizer_folder, tmp_path / "half", 512, {})
    assert AutoModelForMaskedLM.from_pretrained(folder).dtype == torch.bfloat16
    back, _, _ = huggingface.load(folder)
    assert back.embedding.weight.dtype == torch.float32
    assert torch.equal(back.embedding.weight, model.embedding.weight.float())


def test_encoder_tokenizer_and_fill_mask(exported: Callable[..., tuple[Transformer, Path]]) -> None:
    from transformers import AutoTokenizer, pipeline

    _, folder = exported("bidirectional")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("the cat").input_ids
    assert (ids[0], ids[-1]) == (BOS, EOS)
    assert set(tokenizer("the cat")) == {"input_ids", "attention_mask"}
    pair = tokenizer("the cat", "a dog").input_ids
    assert pair.count(EOS) == 2 and pair.count(BOS) == 1
    # [MASK] stands for a word and the space before it, as in training
    assert tokenizer("the [MASK] sat").input_ids == [
        BOS,
        *tokenizer("the", add_special_tokens=False).input_ids,
        MASK,
    ] + [
        *tokenizer(" sat", add_special_tokens=False).input_ids,
        EOS,
    ]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the cat"
    assert tokenizer.model_max_length == 512
    answers = pipeline("fill-mask", model=str(folder), top_k=3, device="cpu")("the [MASK] sat on the mat")
    assert len(answers) == 3
    assert all(0 < answer["score"] < 1 for answer in answers)


def test_decoder_tokenizer_and_generation(exported: Callable[..., tuple[Transformer, Path]]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, folder = exported("causal")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    prompts = ["the cat sat on", "a dog met the other dog and she said that"]
    ids = tokenizer(prompts[0]).input_ids
    assert ids == [BOS, *tokenizer(prompts[0], add_special_tokens=False).input_ids]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (BOS, EOS, PAD)
    generation = theirs.generation_config
    assert (generation.bos_token_id, generation.eos_token_id, generation.pad_token_id) == (BOS, EOS, PAD)

    def generate(texts: list[str], **options: Any) -> Any:
        wanted = {"max_new_tokens": 30, "min_new_tokens": 30, "do_sample": False, "return_dict_in_generate": True}
        return theirs.generate(**tokenizer(texts, return_tensors="pt", padding=True), **wanted, **options)

    cached = generate([prompts[0]], use_cache=True, output_logits=True)
    plain = generate([prompts[0]], use_cache=False, output_logits=True)
    assert torch.equal(cached.sequences, plain.sequences)
    assert (torch.stack(cached.logits) - torch.stack(plain.logits)).abs().max() < 1e-4

    # The generated tokens are the ones our own model predicts, far beyond the window.
    sequence = cached.sequences
    documents, positions = torch.zeros_like(sequence), torch.arange(sequence.shape[1])[None]
    with torch.no_grad():
        ours = model.logits(model(sequence, documents, positions, AttentionSpec("causal", 160_000.0, 10_000.0))[0])
    begin = len(ids)
    assert sequence.shape[1] == begin + 30 > 4 * SMALL.local_window
    assert (ours[begin - 1 : -1] - torch.stack(plain.logits)[:, 0]).abs().max() < 1e-4

    # Padded on the left, a batch continues each prompt as it would alone.
    together = generate(prompts).sequences
    for row, prompt in enumerate(prompts):
        assert torch.equal(together[row, -30:], generate([prompt]).sequences[0, -30:])


def test_generation_stops_at_the_end_of_the_document(exported: Callable[..., tuple[Transformer, Path]]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _, folder = exported("causal")
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        theirs.decoder.bias[EOS] = 1e4
    prompt = AutoTokenizer.from_pretrained(folder)("the cat", return_tensors="pt")
    assert theirs.generate(**prompt, max_new_tokens=20, do_sample=False)[0, prompt.input_ids.shape[1] :].tolist() == [
        EOS
    ]


def test_an_existing_folder_is_replaced_only_on_request(
    exported: Callable[..., tuple[Transformer, Path]], tokenizer_folder: Path, tmp_path: Path
) -> None:
    model, folder = exported("causal")
    arguments = (model, AttentionSpec("bidirectional"), tokenizer_folder)
    with pytest.raises(ValueError, match=r"exists; .*overwrite"):
        huggingface.export(*arguments, folder, 512, {})
    assert (folder / "generation_config.json").exists()
    huggingface.export(*arguments, folder, 512, {}, overwrite=True)
    assert not (folder / "generation_config.json").exists()

    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds thesis\.tex, and export did not write it"):
        huggingface.export(*arguments, precious, 512, {}, overwrite=True)
    assert (precious / "thesis.tex").exists()


def test_a_failed_export_leaves_nothing_and_keeps_the_earlier_one(
    exported: Callable[..., tuple[Transformer, Path]],
    tokenizer_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, folder = exported("causal")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def full_disk(*arguments: Any, **options: Any) -> None:
        raise OSError("no space")

    monkeypatch.setattr(huggingface, "save_file", full_disk)
    for out in (folder, tmp_path / "new"):
        with pytest.raises(OSError, match="no space"):
            huggingface.export(model, AttentionSpec("causal"), tokenizer_folder, out, 512, {}, overwrite=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not [path for path in tmp_path.iterdir() if path != folder]


def test_a_kill_at_any_change_of_the_disk_leaves_the_old_export_or_the_new(
    exported: Callable[..., tuple[Transformer, Path]], tokenizer_folder: Path
) -> None:
    model, folder = exported("causal")

    def export(run: str) -> None:
        huggingface.export(model, AttentionSpec("causal"), tokenizer_folder, folder, 512, {"run": run}, overwrite=True)

    seen = set()
    before = sorted(path.name for path in folder.iterdir())

    def check(number: int) -> None:
        assert sorted(path.name for path in folder.iterdir()) == before
        seen.add(huggingface.load(folder)[2]["metadata"]["run"])

    export("old")
    assert killed_at_every_change(partial(export, "new"), check) > len(before)
    assert seen == {"old", "new"}
    export("last")
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_tokenizer_larger_than_the_model_is_refused(
    random_model: Callable[..., Transformer], tokenizer_folder: Path, tmp_path: Path
) -> None:
    narrow = ModelConfig(vocab_size=100, hidden_size=32, num_layers=1, num_heads=2, intermediate_size=48)
    with pytest.raises(ValueError, match=r"tokenizer.*has ids up to 289, the model has 100 rows"):
        huggingface.export(random_model(narrow), AttentionSpec("causal"), tokenizer_folder, tmp_path / "out", 512, {})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("direction", "window"), [("bidirectional", 64), ("causal", 63)])
def test_legacy_configs_are_read_by_their_meaning(direction: str, window: int, tmp_path: Path) -> None:
    """The published files of 2025: no layer_types, no rope_parameters, a decoder that shows 64 keys."""
    legacy = {
        "model_type": "modernbert" if direction == "bidirectional" else "modernbert-decoder",
        "architectures": [ARCHITECTURE_OF[direction]],
        "vocab_size": 50368,
        "hidden_size": 256,
        "num_hidden_layers": 7,
        "num_attention_heads": 4,
        "intermediate_size": 384,
        "global_attn_every_n_layers": 3,
        "local_attention": 128,
        "global_rope_theta": 160000.0,
        "local_rope_theta": 20000.0,
        "max_position_embeddings": 7999,
        "torch_dtype": "float32",
    }
    (tmp_path / "config.json").write_text(json.dumps(legacy))
    shape, attention, max_positions = read_config(tmp_path)
    assert shape == ModelConfig(50368, 256, 7, 4, 384, local_window=window)
    assert attention == AttentionSpec(direction, 160_000.0, 20_000.0)
    assert max_positions == 7999


def test_a_decoder_of_transformers_default_window_is_imported_exactly(
    random_model: Callable[..., Transformer], tokenizer_folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, ModernBertDecoderConfig, ModernBertDecoderForCausalLM

    config = ModernBertDecoderConfig(
        vocab_size=97,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=48,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        initializer_range=0.3,
    )
    ModernBertDecoderForCausalLM(config).save_pretrained(tmp_path / "theirs")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "theirs").eval()
    ours, attention, facts = huggingface.load(str(tmp_path / "theirs"))
    assert (ours.config.local_window, facts["metadata"]) == (63, {})
    tokens = torch.randint(5, 97, (1, 200), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        states = ours.eval()(tokens, torch.zeros_like(tokens), torch.arange(200)[None], attention)
        assert (ours.logits(states[0]) - theirs(tokens).logits[0]).abs().max() < 1e-4


@pytest.mark.parametrize(
    "changes",
    [
        {"norm_bias": True},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"classifier_bias": True},
        {"decoder_bias": False},
        {"hidden_activation": "silu"},
        {"classifier_activation": "relu"},
        {"tie_word_embeddings": False},
        {"attention_dropout": 0.1},
        {"head_dim": 8},
        {"layer_types": ["full_attention", "full_attention", "sliding_attention", "full_attention"]},
        {"architectures": ["ModernBertForSequenceClassification"]},
        {"model_type": "bert"},
        {"rope_parameters": {"full_attention": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_features_we_do_not_have_are_refused_by_name(
    changes: dict[str, Any], exported: Callable[..., tuple[Transformer, Path]]
) -> None:
    _, folder = exported("bidirectional")
    edit_config(folder, **changes)
    with pytest.raises(ValueError, match=next(iter(changes))) as caught:
        huggingface.load(folder)
    assert "\n" not in str(caught.value)


def test_damage_is_refused_in_one_clear_line(exported: Callable[..., tuple[Transformer, Path]], tmp_path: Path) -> None:
    model, folder = exported("causal")

    def refused(match: str, source: Path | str = folder) -> None:
        with pytest.raises(ValueError, match=match) as caught:
            huggingface.load(source)
        assert "\n" not in str(caught.value)

    state = load_file(folder / "model.safetensors")
    save_file(
        {key: value for key, value in state.items() if "layers.2.mlp.Wi" not in key}, folder / "model.safetensors"
    )
    refused(r"model\.layers\.2\.mlp\.Wi\.weight' is missing")
    save_file(state, folder / "model.safetensors")
    edit_config(folder, hidden_size=64)
    refused(r"embedding\.weight.*config\.json says \[293, 64\]")
    edit_config(folder, hidden_size=32)
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    refused(r"holds no model\.safetensors")
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    refused("only pickled weights")
    (folder / "config.json").unlink()
    refused(r"holds no config\.json")
    refused("neither a folder nor a model that can be fetched", tmp_path / "nowhere")


def test_a_hub_id_without_network_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="nobody-knows/this-model' is neither a folder nor a model") as caught:
        huggingface.load("nobody-knows/this-model", revision="step100")
    assert "\n" not in str(caught.value)


def test_a_prefix_model_has_no_class_in_transformers(
    random_model: Callable[..., Transformer], tokenizer_folder: Path, tmp_path: Path
) -> None:
    narrow = ModelConfig(vocab_size=300, hidden_size=32, num_layers=1, num_heads=2, intermediate_size=48)
    with pytest.raises(ValueError, match="direction='prefix' has no class in transformers; export a bidirectional"):
        huggingface.export(random_model(narrow), AttentionSpec("prefix"), tokenizer_folder, tmp_path / "out", 512, {})
    assert not (tmp_path / "out").exists()
