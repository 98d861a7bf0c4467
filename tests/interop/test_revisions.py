"""Checkpoints as Hugging Face revisions: real from_pretrained finds each without a network, and it is our model there."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ettin_core.checkpoints import native
from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.data.corpus import Corpus
from ettin_core.evaluation import exports
from ettin_core.evaluation.revisions import export_revisions
from ettin_core.foundation.folders import remove_folder
from ettin_core.interop import revisions
from ettin_core.interop.revisions import Repository
from ettin_core.model.transformer import Transformer
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import RunConfig
from experiments.export import AUTO_CLASS_OF
from tests import processes
from tests.runs import tiny_run, train_tiny

KEPT = ["step0", "step4", "step8", "step12", "decay3", "decay4", "decay5"]
WITHOUT_NETWORK = """
import socket
def refused(*arguments, **options):
    raise AssertionError("the network was asked")
socket.socket.connect = socket.getaddrinfo = refused
"""


def kept_run(corpus: Corpus, member: str) -> RunConfig:
    """A tiny run that keeps every fourth checkpoint of its first phase permanently."""
    return replace(tiny_run(corpus, member), checkpoint=CheckpointConfig(4, keep_every_tokens=4 * 8 * 48))


@pytest.fixture(scope="module")
def complete(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """A complete run of each member."""
    root = tmp_path_factory.mktemp("runs")
    return {member: train_tiny(kept_run(corpus, member), root, corpus) for member in ("encoder", "decoder")}


@pytest.fixture
def run_copy(complete: dict[str, RunFolder], tmp_path: Path) -> RunFolder:
    """A copy of the encoder's run whose checkpoints may be hurt."""
    folder = RunFolder(tmp_path / complete["encoder"].name)
    subprocess.run(["cp", "-r", complete["encoder"].path, folder.path], check=True)
    return folder


@pytest.fixture
def export_to(corpus: Corpus, tmp_path: Path) -> Callable[..., tuple[Repository, list[str]]]:
    """`export_to(folder, wanted)`: the repository that a run was exported to, and the errors."""

    def write(folder: RunFolder, wanted: Any = "all", **options: Any) -> tuple[Repository, list[str]]:
        repository = Repository(tmp_path / "cache", f"local/{folder.name}")
        run = kept_run(corpus, "decoder" if "decoder" in folder.name else "encoder")
        return repository, export_revisions(run, folder, corpus, repository, wanted, **options)

    return write


def load(repository: Repository, revision: str | None, auto: str) -> Any:
    """What transformers loads, asked as on the hub."""
    import transformers

    named = {} if revision is None else {"revision": revision}
    return getattr(transformers, auto).from_pretrained(repository.repo_id, cache_dir=repository.cache, **named)


def stamps(repository: Repository) -> dict[Path, int]:
    """When each file of each snapshot was written."""
    return {file: file.stat().st_mtime_ns for file in repository.folder.glob("snapshots/*/*")}


@torch.no_grad()
def native_logits(folder: RunFolder, run: RunConfig, name: str, tokens: torch.Tensor) -> torch.Tensor:
    """Logits (S, V) of our own model at a checkpoint, with the attention of its phase."""
    model = Transformer(run.model, attention="reference").eval()
    model.load_state_dict(native.load(folder.checkpoints / name).model)
    attention = run.phases["decay" in name].attention(run.direction)
    states = model(tokens, torch.zeros_like(tokens), torch.arange(tokens.shape[1])[None], attention)
    return model.logits(states[0])


@pytest.mark.parametrize("member", ["encoder", "decoder"])
def test_every_checkpoint_loads_as_the_revision_of_its_name(
    member: str, complete: dict[str, RunFolder], corpus: Corpus, export_to: Callable[..., tuple[Repository, list[str]]]
) -> None:
    folder, run = complete[member], kept_run(corpus, member)
    repository, refused = export_to(folder)
    assert refused == [] and repository.revisions() == sorted([*KEPT, "main"])
    auto = AUTO_CLASS_OF[run.direction]
    tokens = torch.randint(8, corpus.tokenizer.vocab_size, (1, 70), generator=torch.Generator().manual_seed(0))
    logits = {}
    for name in KEPT:
        theirs = load(repository, name, auto).eval()
        logits[name] = theirs(tokens).logits[0].detach()
        torch.testing.assert_close(logits[name], native_logits(folder, run, name, tokens), rtol=1e-5, atol=1e-5)
        assert theirs.config.max_position_embeddings == (80 if "decay" in name else 48)
    distances = [(logits[earlier] - logits[later]).abs().max() for earlier, later in zip(KEPT, KEPT[1:], strict=False)]
    assert min(distances) > 1e-3, "training moved the model from each to the next"
    for last in (None, "main", repository.commit("decay5")):
        assert torch.equal(load(repository, last, auto).eval()(tokens).logits[0], logits["decay5"])
    ids = load(repository, "step4", "AutoTokenizer")("the man saw the river", add_special_tokens=False).input_ids
    assert ids == list(corpus.tokenizer.backend.encode("the man saw the river", add_special_tokens=False).ids)


def test_huggingface_hub_finds_nothing_wrong_with_the_cache(
    complete: dict[str, RunFolder], export_to: Callable[..., tuple[Repository, list[str]]]
) -> None:
    from huggingface_hub import scan_cache_dir

    for member in complete:
        repository, _ = export_to(complete[member])
    report = scan_cache_dir(repository.cache)
    assert report.warnings == [] and len(report.repos) == 2
    for cached in report.repos:
        assert {ref for revision in cached.revisions for ref in revision.refs} == {*KEPT, "main"}
        assert all(len(revision.commit_hash) == 40 for revision in cached.revisions)


def test_a_run_that_still_trains_is_exported_again_and_only_new_ones_are_written(
    corpus: Corpus,
    export_to: Callable[..., tuple[Repository, list[str]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = kept_run(corpus, "encoder")
    folder = train_tiny(run, tmp_path / "runs", corpus, stop_after=9)
    repository, _ = export_to(folder)
    assert repository.revisions() == ["main", "step0", "step4", "step8"]
    assert repository.commit("main") == repository.commit("step8")
    first = stamps(repository)
    with monkeypatch.context() as patch:
        patch.setattr(exports, "open_model", pytest.fail)  # what is there is not even read
        export_to(folder)
    assert stamps(repository) == first

    train_tiny(run, tmp_path / "runs", corpus)
    export_to(folder)
    assert repository.revisions() == sorted([*KEPT, "main"])
    assert repository.commit("main") == repository.commit("decay5")
    assert {file: stamp for file, stamp in stamps(repository).items() if file in first} == first


def test_a_checkpoint_written_again_with_other_weights_moves_its_revision(
    run_copy: RunFolder, complete: dict[str, RunFolder], export_to: Callable[..., tuple[Repository, list[str]]]
) -> None:
    repository, _ = export_to(run_copy)
    before = {name: repository.commit(name) for name in KEPT}
    checkpoint = native.load(run_copy.checkpoints / "step4")
    weights = {name: weight + 1 for name, weight in checkpoint.model.items()}
    native.save(run_copy.checkpoints, "step4", weights, checkpoint.optimizer, checkpoint.state, run_copy.name)
    export_to(run_copy)
    assert [name for name in KEPT if repository.commit(name) != before[name]] == ["step4"]


def test_named_checkpoints_and_the_last(
    run_copy: RunFolder, export_to: Callable[..., tuple[Repository, list[str]]]
) -> None:
    repository, _ = export_to(run_copy, ["step8", "step0"])
    assert repository.revisions() == ["decay5", "main", "step0", "step8"]
    export_to(run_copy, "step4")
    assert repository.revisions() == ["decay5", "main", "step0", "step4", "step8"]
    with pytest.raises(
        ValueError, match=r"revisions=\['step7'\] is not among .*it has step0, step4, .*, decay5\."
    ) as caught:
        export_to(run_copy, ["step0", "step7"])
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"revisions=\[100\] is not among"):
        export_to(run_copy, 100)
    remove_folder(run_copy.checkpoints)
    with pytest.raises(ValueError, match="has none yet"):
        export_to(run_copy)


@pytest.mark.parametrize(
    ("name", "file"), [("step4", "model.safetensors"), ("step4", "index.json"), ("decay5", "state.json")]
)
def test_a_damaged_checkpoint_is_refused_by_name_and_the_others_are_written(
    name: str, file: str, run_copy: RunFolder, export_to: Callable[..., tuple[Repository, list[str]]]
) -> None:
    damaged = run_copy.checkpoints / name / file
    damaged.write_bytes(damaged.read_bytes()[:-9])
    repository, refused = export_to(run_copy)
    assert len(refused) == 1 and str(damaged) in refused[0] and "\n" not in refused[0]
    rest = [*(kept for kept in KEPT if kept != name), *(["main"] if name != "decay5" else [])]
    assert repository.revisions() == sorted(rest)


def test_a_checkpoint_pruned_meanwhile_is_left_out(
    run_copy: RunFolder,
    export_to: Callable[..., tuple[Repository, list[str]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    open_model = exports.open_model

    def prune_then_open(run: Any, folder: Any, corpus: Any, checkpoint: str, device: str) -> Any:
        remove_folder(run_copy.checkpoints / "step8")
        return open_model(run, folder, corpus, checkpoint, device)

    monkeypatch.setattr(exports, "open_model", prune_then_open)
    repository, refused = export_to(run_copy)
    assert refused == [] and "step8" not in repository.revisions() and "step12" in repository.revisions()
    assert "step8 was pruned" in capsys.readouterr().out


@pytest.mark.parametrize("target", ["os", "write_text"])  # the only two moves: os.replace and the ref
def test_a_kill_leaves_revisions_whole_or_absent(
    target: str,
    run_copy: RunFolder,
    export_to: Callable[..., tuple[Repository, list[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed with the snapshot ready but not in place, and in place but not named; begun again, nothing is left over."""

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(revisions, target, SimpleNamespace(replace=killed) if target == "os" else killed)
        with pytest.raises(KeyboardInterrupt):
            export_to(run_copy, "step0")
    repository = Repository(run_copy.path.parent / "cache", f"local/{run_copy.name}")
    assert list(repository.folder.glob("refs/*")) == []
    export_to(run_copy, "decay5")
    assert repository.revisions() == ["decay5", "main"]
    export_to(run_copy)
    assert repository.revisions() == sorted([*KEPT, "main"])
    assert {path.name for path in repository.folder.iterdir()} == {".lock", "refs", "snapshots"}
    assert len(list(repository.folder.glob("snapshots/*"))) == len(KEPT)


def test_overwrite_mends_a_damaged_snapshot(
    run_copy: RunFolder, export_to: Callable[..., tuple[Repository, list[str]]]
) -> None:
    repository, _ = export_to(run_copy)
    commits = {name: repository.commit(name) for name in KEPT}
    weights = repository.snapshot(str(commits["step4"])) / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    before = stamps(repository)
    export_to(run_copy, overwrite=True)
    assert weights.read_bytes() == whole and {name: repository.commit(name) for name in KEPT} == commits
    after = stamps(repository)
    assert {file.parent for file in before if after[file] != before[file]} == {weights.parent}


def test_two_models_never_share_a_name(complete: dict[str, RunFolder], corpus: Corpus, tmp_path: Path) -> None:
    def write(member: str, repository: Repository) -> None:
        export_revisions(kept_run(corpus, member), complete[member], corpus, repository, ["step0"])

    repository = Repository(tmp_path, "local/mine")
    write("encoder", repository)
    with pytest.raises(ValueError, match=f"repo_id='local/mine' in .*{complete['encoder'].name}; name another"):
        write("decoder", repository)
    downloaded = Repository(tmp_path, "somebody/model")
    downloaded.add("main", lambda out: (out.mkdir(parents=True), (out / "config.json").write_text("{}")))
    with pytest.raises(ValueError, match="a model that was not exported here"):
        write("encoder", downloaded)


@pytest.mark.parametrize("repo_id", ["a/b/c", "a--b", "with space/x", "../x"])
def test_a_name_that_the_hub_does_not_take_is_refused(repo_id: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="repo_id=.*give <namespace>/<name>") as caught:
        Repository(tmp_path, repo_id)
    assert "\n" not in str(caught.value)


def test_the_command_prints_the_lines_that_load_a_revision(
    complete: dict[str, RunFolder], corpus: Corpus, tmp_path: Path
) -> None:
    """The printed lines are run by a new interpreter, without a network and without any setting of Hugging Face's."""
    folder = complete["decoder"]

    def export(*arguments: str) -> processes.Process:
        places = [f"run={folder.path}", "out=cache", f"corpora_dir={corpus.folder.parent}"]
        return processes.run(tmp_path, "experiments.export", *places, *arguments)

    done = export("revisions=[step0,step8]")
    assert done.returncode == 0, done.stderr
    assert "main is decay5" in done.stdout and "step8" in done.stdout
    lines = [line for line in done.stdout.splitlines() if line.startswith(("from ", "model = "))]
    assert len(lines) == 2 and 'revision="decay5"' in lines[1]
    tokenizer = lines[1].replace("AutoModelForCausalLM", "AutoTokenizer").replace("model =", "tokenizer =")
    use = 'print(model(**tokenizer("the man", return_tensors="pt")).logits.shape, model.config.max_position_embeddings)'
    script = "\n".join([WITHOUT_NETWORK, lines[0], lines[1].replace("decay5", "step8"), tokenizer, use])
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    loaded = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert loaded.returncode == 0, loaded.stderr
    assert "1024" in loaded.stdout and loaded.stdout.endswith(" 48\n")

    unknown = export("revisions=[step9]")
    assert unknown.returncode == 2 and "it has step0, step4" in unknown.stderr and "Traceback" not in unknown.stderr
    for wrong in (["repo_id=a/b"], ["revisions=all", "checkpoint=step0"]):
        assert export(*wrong).returncode == 2
