"""A batch as it is printed: every text, mark, target and count is what the loader and the objective really gave."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ettin_core.checkpoints.retention import CheckpointConfig
from ettin_core.data.config import DataConfig
from ettin_core.data.corpus import Corpus
from ettin_core.data.packing import PACKINGS
from ettin_core.data.preparation.prepare import prepare
from ettin_core.foundation.errors import UserError
from ettin_core.objectives.kinds import OBJECTIVES
from ettin_core.planning.source_counts import count_sources
from ettin_core.planning.step_batch import StepBatch, phase_of
from ettin_core.records.folders import RunFolder
from ettin_core.training.config import RunConfig
from experiments.view_batch import ViewRequest, check, describe
from experiments.views.batch_text import RowText, counts_of, pieces, spell
from tests import processes
from tests.runs import tiny_run, train_tiny

ROOT = Path(__file__).resolve().parents[2]
MIXTURE = {"letters": 0.25, "words": 0.75}


@pytest.fixture(scope="module")
def two_sources(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Two sources of short and long documents, with letters that take several tokens."""
    folder = tmp_path_factory.mktemp("two")
    for name, unit in (("letters", "ab 🙂 ü\n"), ("words", "the quick brown fox\tjumps. ")):
        for number in range(240):
            split = "validation" if number < 20 else "train"
            (folder / f"{name}.{split}-{number:03d}.txt").write_text(f"{number} " + unit * (1 + number % 23))
    return prepare(DataConfig(kind="text", path=str(folder), vocab_size=300), folder / "corpora", workers=1)


def mixed(corpus: Corpus, member: str = "encoder", packing: str = "stream") -> RunConfig:
    """The tiny run with a mixture and a packing in both phases."""
    run = tiny_run(corpus, member)
    phases = {name: replace(phase, mixture=MIXTURE, packing=packing) for name, phase in run.recipe.phases.items()}
    return replace(run, recipe=replace(run.recipe, phases=phases))


def request(**changes: object) -> ViewRequest:
    """A request for two rows."""
    settings = {"run": "", "step": 0, "rows": 2, "row": None, "objective": "run", "targets": 8, "check": False}
    return ViewRequest(**{**settings, "corpora_dir": "", **changes})  # type: ignore[arg-type]


def unwrapped(lines: list[str]) -> str:
    """The text of a block of printed lines."""
    return "".join(line.removeprefix("  | ") for line in lines if line.startswith("  | ")).replace("⏎", "\n")


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_rows_text_is_what_the_corpus_holds(two_sources: Corpus, packing: str) -> None:
    view = StepBatch(mixed(two_sources, packing=packing), two_sources, 13)
    text = RowText(view.batch, two_sources.tokenizer, 0, full=True)
    for row in range(8):
        filled = view.batch.tokens[row][view.batch.real[row]].tolist()
        assert unwrapped(text.stored(row)) == spell(two_sources.tokenizer, filled)
        bounds = [line for line in text.stored(row) if line.startswith("  -- piece")]
        assert len(bounds) == view.batch.document_ids[row].max() + 1
        whole = [filled[begin:end] for begin, end in pieces(view.batch, row)]
        special = two_sources.tokenizer.special
        for line, ids in zip(bounds, whole, strict=True):
            assert line.endswith(": a whole document") == (ids[0] == special.bos and ids[-1] == special.eos)
    assert any("padding" in line for row in range(8) for line in text.stored(row)) == (not view.batch.real.all())


@pytest.mark.parametrize("objective", ["mlm", "mntp"])
def test_the_marks_show_every_selected_token_and_undoing_them_gives_the_text(corpus: Corpus, objective: str) -> None:
    view = StepBatch(tiny_run(corpus), corpus, 3)
    shown, tokenizer = view.through(objective), corpus.tokenizer
    text = RowText(view.batch, tokenizer, 0, full=True)
    assert shown.selected is not None
    for row in range(8):
        printed = unwrapped(text.through([shown], row)).replace("␣", " ")
        marks = re.findall(r"\[([^\[\]→]*)→([^\[\]→]*)\]", printed)
        places = np.flatnonzero(shown.selected[row])
        assert [mark for mark, _ in marks] == [
            spell(tokenizer, [token]).strip("[]") for token in shown.targets.inputs[row, places].tolist()
        ]
        undone = re.sub(r"\[[^\[\]→]*→([^\[\]→]*)\]", r"\1", printed)
        assert undone == spell(tokenizer, view.batch.tokens[row].tolist())
    assert text.through([view.through("mlm"), view.through("mntp")], 0).count("  inputs: as for mlm above") == 1


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_targets_listed_are_the_objectives(corpus: Corpus, objective: str) -> None:
    view = StepBatch(tiny_run(corpus), corpus, 14)
    shown, width = view.through(objective), view.phase.context
    lines = RowText(view.batch, corpus.tokenizer, 1000, full=True).through([shown], 2)
    listed = [re.fullmatch(r' +(\d+)   "(.*?)" +"(.*)"', line) for line in lines]
    printed = [(int(match[1]), match[2], match[3]) for match in listed if match]
    in_row = shown.targets.scored_positions // width == 2
    expected = [
        (
            int(read % width),
            *(spell(corpus.tokenizer, [int(token)]) for token in (shown.targets.inputs.flat[read], label)),
        )
        for read, label in zip(shown.targets.scored_positions[in_row], shown.targets.labels[in_row], strict=True)
    ]
    assert printed == expected and len(printed) > 2


def test_the_counts_add_up_to_the_rows(two_sources: Corpus) -> None:
    view = StepBatch(mixed(two_sources, packing="off"), two_sources, 14)
    for objective in OBJECTIVES:
        shown = view.through(objective)
        counts = counts_of(shown, slice(None))
        scored, of_all = counts.split(" tokens scored")[0].split(" of ")
        assert (int(scored.replace(",", "")), int(of_all.replace(",", ""))) == (
            len(shown.targets.scored_positions),
            view.batch.real.sum(),
        )
        unscored = re.findall(r"(\d[\d,]*) ", counts.split("not scored: ")[1])
        others = sum(int(number.replace(",", "")) for number in unscored)
        assert len(shown.targets.scored_positions) + others == view.batch.tokens.size
        if shown.selected is not None:
            parts = re.search(r"special ([\d,]+) selected .*: ([\d,]+) masked, ([\d,]+) random, ([\d,]+) kept", counts)
            assert parts is not None
            chosen, *kinds = (int(number.replace(",", "")) for number in parts.groups())
            assert chosen == sum(kinds) == shown.selected.sum()


def test_the_sources_table_counts_what_the_loader_gave(two_sources: Corpus) -> None:
    run = mixed(two_sources)
    view = StepBatch(run, two_sources, 15)
    text = describe(view, request(step=15, rows=0))
    first, second = (phase.loader(two_sources, run.seeds.order) for phase in run.phases)
    for number, name in enumerate(("letters", "words")):
        cells = re.search(rf"^{name} +(.*)$", text, re.M)[1].split()  # type: ignore[index]
        drawn = sum(int((second.batch(step).sources == number).sum()) for step in range(4))
        before = sum(int((first.batch(step).sources == number).sum()) for step in range(12))
        here = view.batch.sources == number
        assert cells[:2] == [f"{here.sum()}", f"{view.batch.real[here].sum()}"]
        assert cells[2] == f"{MIXTURE[name]:.2%}" and cells[4] == str(drawn)
        passes = drawn / second.rows[number].count
        assert cells[6] == f"{passes:.3f}" and cells[7] == f"{passes + before / first.rows[number].count:.3f}"
    assert f"{second.batch(3).digest():016x}" in text and "decay step 3 of 0 to 4" in text


def test_draws_are_exact_over_whole_blocks_of_the_order_and_within_them(two_sources: Corpus) -> None:
    loader = mixed(two_sources).phases[0].loader(two_sources, 21)
    for rows in (0, 1, 9_999, 10_000, *range(20_000, 20_040)):
        counts = np.bincount(loader.order.locate(np.arange(rows)).source, minlength=2)
        drawn = count_sources(loader, MIXTURE, rows)
        assert [count.rows for count in drawn.values()] == counts.tolist()
        assert all(abs(drawn[name].passes - passes) < 1 for name, passes in loader.repeats(rows).items())
        assert {name: count.asked for name, count in drawn.items()} == MIXTURE


def test_bytes_that_are_no_text_are_shown(two_sources: Corpus) -> None:
    tokenizer = two_sources.tokenizer
    (ids,) = tokenizer.encode(["🙂\x07\n"])
    assert spell(tokenizer, ids) == "🙂\\x07\n"
    (half,) = tokenizer.encode(["ģ"])
    broken = spell(tokenizer, half[:1])
    assert len(half) > 1 and broken == "\\xc4"
    assert spell(tokenizer, [tokenizer.special.mask, *ids[:1]]).startswith("[MASK]")


def test_a_shortened_row_says_how_to_see_all_of_it(corpus: Corpus) -> None:
    run = tiny_run(corpus)
    phases = {"pretrain": replace(run.recipe.phases["pretrain"], context=1024, share=1.0, batch_rows=2)}
    view = StepBatch(replace(run, recipe=replace(run.recipe, phases=phases)), corpus, 1)
    batch = view.batch
    batch.document_ids[:] = 0  # one long piece
    short = describe(view, request(step=1))
    full = describe(view, request(step=1, row=3))
    assert "row=3 shows the row in full" in short and "more lines" not in full
    assert "\nrow 2:" not in full and "\nrow 3:" in full and len(full) > len(short) / 2
    assert max(len(line) for line in short.split("\n")) <= 120


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row": 24}, "row=24 is not in the batch of step 2; use 16 to 23"),
        ({"objective": "mlx"}, "objective='mlx' is not an objective; use run, all, or a list of clm, mlm, mntp"),
        ({"objective": []}, "is not an objective"),
        ({"objective": ["mlm", 3]}, "is not an objective"),
    ],
)
def test_what_is_not_there_is_an_error(corpus: Corpus, changes: dict[str, object], message: str) -> None:
    view = StepBatch(tiny_run(corpus), corpus, 2)
    with pytest.raises(UserError, match=message):
        describe(view, request(step=2, **changes))


@pytest.mark.parametrize("step", [-1, 17])
def test_a_step_that_the_run_has_not_is_an_error(corpus: Corpus, step: int) -> None:
    with pytest.raises(UserError, match=f"step={step} is not a step of the run, which has 17; use 0 to 16"):
        phase_of(tiny_run(corpus), step)


@pytest.fixture(scope="module")
def unfinished(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that was stopped after 9 of its steps; its hash is recorded every 3."""
    run = replace(tiny_run(corpus), checkpoint=CheckpointConfig(every_steps=3))
    return train_tiny(run, tmp_path_factory.mktemp("runs"), corpus, stop_after=9)


def test_a_replay_matches_what_was_recorded_at_or_before_the_step(corpus: Corpus, unfinished: RunFolder) -> None:
    run = tiny_run(corpus)
    sentence, differs = check(unfinished, run, corpus, 7, replay=True)
    assert "matches: steps 0 to 5" in sentence and not differs
    assert "steps 0 to 8" in check(unfinished, run, corpus, 8, replay=True)[0]
    assert "check=true replays steps 0 to 5" in check(unfinished, run, corpus, 5, replay=False)[0]
    sentence, differs = check(unfinished, run, corpus, 1, replay=True)
    assert "none recorded up to step 1; the first is recorded after step 2" in sentence and not differs


def test_a_complete_run_is_checked_across_phases(corpus: Corpus, tmp_path: Path) -> None:
    run = tiny_run(corpus)
    folder = train_tiny(run, tmp_path, corpus)
    last = sum(phase.steps for phase in run.phases) - 1
    sentence, differs = check(folder, run, corpus, last, replay=True)
    assert folder.summary()["data_hash"] in sentence and "matches" in sentence and not differs


def view_batch(*arguments: str) -> processes.Process:
    """The ended command."""
    return processes.run(ROOT, "experiments.view_batch", *arguments)


def test_the_command_shows_an_unfinished_run_and_fails_when_its_data_changed(
    corpus: Corpus, unfinished: RunFolder, tmp_path: Path
) -> None:
    shutil.copytree(corpus.folder, tmp_path / corpus.name)
    options = [f"run={unfinished.path}", "step=8", f"corpora_dir={tmp_path}"]
    done = view_batch(*options, "objective=[mlm,clm]", "check=true")
    assert done.returncode == 0, done.stderr
    assert "check        matches" in done.stdout and "objective clm" in done.stdout and "\x1b" not in done.stdout
    changed = RunFolder(shutil.copytree(unfinished.path, tmp_path / "changed" / unfinished.path.name))
    rows = re.sub(r'"data_hash": "[^"]*"', f'"data_hash": "{"0" * 64}"', changed.metrics_file.read_text())
    changed.metrics_file.write_text(rows)
    done = view_batch(f"run={changed.path}", *options[1:], "check=true")
    assert done.returncode == 1 and "check        DIFFERS: steps 0 to 8" in done.stdout, done.stderr
    shard = next((tmp_path / corpus.name).glob("world.train-*.bin"))
    tokens = np.fromfile(shard, dtype="<u2")
    tokens[5::50] ^= 1
    tokens.tofile(shard)
    done = view_batch(*options, "check=true")
    assert done.returncode == 2 and f"{shard.name}' is damaged" in done.stderr
    done = view_batch(options[0], "step=8", f"corpora_dir={tmp_path / 'nowhere'}")
    assert done.returncode == 2 and f"does not hold the run's corpus {corpus.name}" in done.stderr
