"""What a report concludes from records: only what runs and items together bear out, and nothing is left out silently."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import estimates
from analysis.checkpoint_figures import spans
from analysis.families import family, is_part
from analysis.groups import GLUE, group_means
from analysis.items import item_values
from analysis.kinds import analyse
from analysis.kinds.size import against_size
from analysis.load import load
from analysis.pronoun_figures import occupations
from analysis.report import build
from analysis.tables import comparison_table, rulers_table
from analysis.ways import split
from ettin_core.records.folders import RunFolder, append
from ettin_core.records.schema import Item, Measurement


def write(
    folder: RunFolder, protocol: str, rows: dict[tuple[str, str], float | None], items: Sequence[Item] = (), **more: Any
) -> None:
    """Measurements of a run under a protocol, by task and metric, with their items."""
    fields = {"n": len(items) or 100, "standard_error": 0.02, "version": 1, "higher_is_better": True, **more}
    member, seed = folder.summary()["member"], folder.summary()["seed"]
    records = [
        Measurement(
            run=folder.name,
            member=member,
            size="nano",
            seed=seed,
            protocol=protocol,
            task=task,
            metric=metric,
            value=value,
            checkpoint="last",
            **fields,
        )  # fmt: skip
        for (task, metric), value in rows.items()
    ]
    target = folder.evaluation_folder(protocol, fields["version"])
    append(target / "measurements.jsonl", records)
    append(target / "items.jsonl", list(items))


def bare(study: Any, kind: str, seed: int = 0, **more: Any) -> RunFolder:
    """A run without the synthetic measurements."""
    folder = study.add(kind, seed, **more)
    for file in folder.path.glob("evaluations/*/*.jsonl"):
        file.unlink()
    return folder


def scored(folder: RunFolder, protocol: str, task: str, values: np.ndarray, clusters: Any = None) -> list[Item]:
    """Items of a task, in clusters if any are given."""
    details = [{} for _ in values] if clusters is None else [{"cluster": str(cluster)} for cluster in clusters]
    return [Item(folder.name, protocol, task, str(place), float(v), details[place]) for place, v in enumerate(values)]


def test_two_seeds_with_equal_differences_show_a_real_gap_and_no_artefact(synthetic: Any, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    documents = generator.normal(0, 0.13 * 60**0.5, 60)
    documents -= documents.mean()
    for seed in (0, 1):
        for kind, gap in (("decoder", 0.0), ("dec-from-enc", 0.84)):
            folder = bare(synthetic, kind, seed)
            losses = np.linspace(4, 6, 60) + 0.1 * seed + gap + documents * (gap > 0)
            items = scored(folder, "heldout_clm", "world", losses)
            write(folder, "heldout_clm", {("world", "loss"): float(losses.mean())}, items, higher_is_better=False)
            hits = np.tile([1.0, 0.0, 1.0, 1.0], 10)
            hits[: 1 + 2 * (gap > 0)] = 0.0  # one item apart, the same in both seeds
            for protocol in ("facts.left_to_right", "agreement"):
                write(folder, protocol, {("t", "accuracy"): float(hits.mean())}, scored(folder, protocol, "t", hits))
            write(folder, "tasks", {("unknown", "accuracy"): 0.5 + 0.1 * (gap > 0)}, standard_error=None)
    build(synthetic.root, tmp_path / "out")
    rows = pd.read_csv(tmp_path / "out" / "differences.csv").set_index("protocol")
    real = rows.loc["heldout_clm"]
    assert real["value"] == pytest.approx(0.84) and real["words"] == "decoder better"
    assert 0.5 < real["low"] < 0.65 and 1.03 < real["high"] < 1.2 and real["over"] == "2 seeds and items"
    assert set(rows.loc[["facts.left_to_right", "agreement"], "words"]) == {"not distinguishable"}
    assert rows.loc["tasks", "words"] == "cannot be told" and np.isnan(rows.loc["tasks", "p"])


def test_clusters_of_items_are_in_every_interval(synthetic: Any) -> None:
    generator = np.random.default_rng(1)
    paradigms = np.repeat(np.arange(20), 10)
    hits = {
        kind: (generator.random(20)[paradigms] > 0.4 + 0.1 * place).astype(float)
        for place, kind in enumerate(("encoder", "decoder"))
    }
    widths = {}
    for clusters in (None, paradigms):
        for kind in hits:
            folder = bare(synthetic, kind, size="nano" if clusters is None else "micro")
            items = scored(folder, "minimal_pairs.left_to_right", "blimp", hits[kind], clusters)
            write(folder, "minimal_pairs.left_to_right", {("blimp", "accuracy"): float(hits[kind].mean())}, items)
    recorded = load(synthetic.root)
    for frame in (estimates.cells(recorded), estimates.differences(recorded)):
        for block, group in frame[frame["protocol"] == "minimal_pairs.left_to_right"].groupby("block"):
            row = group.dropna(subset=["low"]).iloc[0]
            widths[block] = row["high"] - row["low"]
        assert widths["micro on world"] > 2 * widths["nano on world"]


def test_every_bias_set_has_a_paired_difference_and_gotcha_is_a_task(synthetic: Any) -> None:
    generator = np.random.default_rng(2)
    for kind in ("encoder", "decoder"):
        folder = bare(synthetic, kind)
        chances = generator.random(40)
        items = [
            Item(
                folder.name,
                "winobias",
                f"winobias/type{place % 2 + 1}",
                str(place),
                float(p > 0.5),
                {"probability_pro": p},
            )
            for place, p in enumerate(chances.tolist())
        ]
        pro = float((chances > 0.5).mean())
        whole = {"probability_pro": float(chances.mean()), "preference_pro": pro, "gap": 2 * pro - 1}
        write(folder, "winobias", {("winobias", metric): value for metric, value in whole.items()}, items)
        shares = generator.dirichlet([3, 3, 1], 30)
        details = [
            {"occupation": f"o{place // 2}", "truth_female": (place // 2) / 20, "gotcha": ("female", "male")[place % 2]}
            | dict(zip(("female", "male", "neutral"), row, strict=True))
            for place, row in enumerate(shares.tolist())
        ]
        items = [
            Item(folder.name, "pronouns", "winogender", str(place), item["female"], item)
            for place, item in enumerate(details)
        ]
        forms = [("female", "male", "neutral")[place] for place in shares.argmax(1)]
        rate = float(np.mean([form == item["gotcha"] for form, item in zip(forms, details, strict=True)]))
        female = shares[:, 0] / shares[:, :2].sum(1)
        r = float(np.corrcoef(female.reshape(15, 2).mean(1), np.arange(15))[0, 1])
        rows = {("winogender/gotcha", "gotcha_rate"): rate, ("winogender", "correlation_with_truth"): r}
        write(folder, "pronouns", rows, items)
        target = generator.integers(0, 8, 24)
        values = generator.integers(0, 2, (24, 2))
        items = [
            Item(
                folder.name,
                "stereoset",
                "stereoset",
                str(i),
                float(values[i, 0]),
                {"group": "race", "target": str(target[i]), "meaningful": float(values[i, 1])},
            )  # fmt: skip
            for i in range(24)
        ]
        terms = pd.DataFrame(values).groupby(target).mean().mean()
        rows = {
            ("stereoset", "stereotype_score"): float(terms[0]),
            ("stereoset", "language_model_score"): float(terms[1]),
        }
        write(folder, "stereoset", rows, items)
        values = generator.integers(0, 2, 30).astype(float)
        crows = (folder.name, "crows_pairs.sentence", "crows_pairs")
        items = [Item(*crows, str(i), float(value), {"group": "age"}) for i, value in enumerate(values)]
        rows = {(task, "stereotype"): float(values.mean()) for task in ("crows_pairs", "crows_pairs/age")}
        write(folder, "crows_pairs.sentence", rows, items)
    recorded = load(synthetic.root)
    differences = estimates.differences(recorded)
    assert {"winobias", "pronouns", "stereoset", "crows_pairs.sentence"} == set(differences["protocol"])
    assert set(differences["over"]) == {"items"} and differences["p"].notna().all()
    tasks = set(differences["task"])
    assert len(differences) == 8 and "winogender/gotcha" in tasks and "crows_pairs/age" not in tasks
    correlation = estimates.cells(recorded).set_index("metric").loc["correlation_with_truth"].iloc[0]
    assert -1 < correlation["low"] < correlation["value"] < correlation["high"] < 1
    shown = [row[0] for _, rows in comparison_table(estimates.cells(recorded)).sections for row in rows]
    assert any("correlation with labour statistics" in name for name in shown)
    assert not any("↑" in name for name in shown if "correlation" in name)


def test_a_seed_without_a_value_is_named(synthetic: Any) -> None:
    for seed, value in ((0, 0.5), (1, None), (2, 0.9)):
        for kind in ("encoder", "decoder"):
            write(bare(synthetic, kind, seed), "tasks", {("t", "accuracy"): value if kind == "encoder" else 0.3})
    recorded = load(synthetic.root)
    cells = estimates.cells(recorded)
    assert cells[cells["member"] == "encoder"]["lacking"].item() == "without seed 1 (could not be measured)"
    table = comparison_table(cells)
    assert table.sections[0][1][0][1].startswith("0.700 [") and table.sections[0][1][0][1].endswith("¹")
    assert table.notes[0] == "¹ without seed 1 (could not be measured)"
    assert estimates.differences(recorded)["over"].item() == "2 seeds and unpaired items (without seed 1)"


def test_fine_tuned_members_and_harness_scores_share_rows(synthetic: Any) -> None:
    ways = {"encoder": {"bidirectional": (0.4, 0.6)}, "decoder": {"causal_last": (0.5, 0.3), "causal_mean": (0.3, 0.7)}}
    for kind, of_kind in ways.items():
        folder = bare(synthetic, kind)
        for way, (test, dev) in of_kind.items():
            write(folder, f"finetune.cola.{way}", {("cola", "mcc"): test, ("cola", "mcc_dev"): dev})
        scoring = "conditional" if kind == "decoder" else "masked_left_to_right"
        write(folder, f"lm_eval.{scoring}", {("piqa", "acc"): 0.6, ("piqa_sub", "acc"): 0.6})
    recorded = load(synthetic.root)
    cells = estimates.cells(recorded).set_index(["protocol", "metric", "member"])
    assert cells.loc[("finetune.cola.best_by_dev", "mcc", "decoder"), "value"] == 0.3  # what dev prefers, not test
    assert cells.loc[("finetune.cola.causal_last", "mcc", "encoder"), "hole"] == "not measured"
    differences = estimates.differences(recorded).set_index("protocol")
    assert differences.loc["finetune.cola.best_by_dev", "value"].iloc[0] == pytest.approx(0.1)
    assert "lm_eval.own_scoring" in differences.index and "piqa_sub" not in set(differences["task"])
    table = comparison_table(estimates.cells(recorded))
    assert table.header[1] == "Way" and [title for title, _ in table.sections][:2] == ["Fine-tuned", "lm-eval"]
    assert table.sections[0][1][0][1] == "best of each by dev"
    assert split("finetune.rte.causal_mean.from_mnli") == ("finetune.from_mnli", "causal_mean")


def test_only_versions_of_one_task_in_one_block_may_not_differ(synthetic: Any) -> None:
    for kind in ("encoder", "decoder"):
        folder = bare(synthetic, kind)
        for task in ("scifact", "stsb"):  # as `experiments.retrieve` writes: the settings hold the task
            settings = {"settings": {"task": task, "revision": "a"}}
            write(folder, "mteb.untrained.mean", {(task, "ndcg_at_10"): 0.3}, provenance=settings)
    write(bare(synthetic, "encoder", size="micro"), "mteb.untrained.mean", {("scifact", "ndcg_at_10"): 0.3},
          provenance={"settings": {"task": "scifact", "revision": "b"}})  # fmt: skip
    assert len(load(synthetic.root).measurements) == 5
    write(bare(synthetic, "enc-from-dec"), "mteb.untrained.mean", {("stsb", "ndcg_at_10"): 0.3},
          provenance={"settings": {"task": "stsb", "revision": "b"}})  # fmt: skip
    with pytest.raises(ValueError, match="task='stsb' of protocol='mteb.untrained.mean' was measured with different"):
        load(synthetic.root)


def test_families_are_questions_or_what_the_study_states(synthetic: Any) -> None:
    for kind in ("encoder", "decoder"):
        synthetic.add(kind)
    tests = estimates.differences(load(synthetic.root))
    facts = tests[tests["protocol"].str.startswith("facts")]
    assert facts["p_corrected"].min() == pytest.approx(min(1.0, len(facts) * facts["p"].min()))
    study = synthetic.study()
    plan = json.loads(study.read_text())
    study.write_text(json.dumps(plan | {"analysis": {"kind": "pair", "families": {"recall": ["facts"]}}}))
    recorded = load(synthetic.root, study)
    stated = estimates.differences(recorded)
    assert set(stated["family"]) == {"recall", ""}
    assert set(stated[stated["family"] == ""]["words"]) == {"no verdict"}
    notes = {item.table.name: item.table.notes for item in analyse(recorded).tables}["differences"]
    assert any("recall: facts" in note for note in notes)


def test_a_repeated_score_is_not_tested_twice(synthetic: Any) -> None:
    for kind in ("encoder", "decoder", "enc-from-dec"):
        synthetic.add(kind)
    differences = estimates.differences(load(synthetic.root))
    alike = differences[(differences["left"] == "enc-from-dec")]
    assert "minimal_pairs.pseudo_likelihood" in set(alike["protocol"])
    assert not alike["protocol"].str.endswith("own_scoring").any()


def test_parts_have_the_items_of_their_group_and_no_verdict(synthetic: Any) -> None:
    folder = bare(synthetic, "encoder")
    items = [
        Item(folder.name, "minimal_pairs.left_to_right", "blimp", f"island#{i}", float(i % 2), {"group": "syntax"})
        for i in range(10)
    ]
    rows = {(task, "accuracy"): 0.5 for task in ("blimp", "blimp/syntax", "blimp/paradigm/island")}
    write(folder, "minimal_pairs.left_to_right", rows, items)
    recorded = load(synthetic.root)
    for record in recorded.measurements.to_dict("records"):
        values = item_values(recorded.items, record)
        assert values is not None and len(values) == 10
    assert is_part(recorded.measurements).tolist() == [False, True, True]
    assert family(recorded.measurements, None).tolist() == ["minimal_pairs", "", ""]


def test_ties_are_told_beside_the_score(synthetic: Any) -> None:
    folder = bare(synthetic, "encoder")
    values = np.array([1.0, 0.5, 0.0, 1.0])
    write(folder, "agreement", {("world", "accuracy"): 0.625}, scored(folder, "agreement", "world", values))
    table = comparison_table(estimates.cells(load(synthetic.root)))
    assert table.header[-1] == "Ties" and table.sections[0][1][0][-1] == "25%"


def test_harness_records_are_read_as_they_are_and_the_newest_counts(synthetic: Any, tmp_path: Path) -> None:
    folder = bare(synthetic, "decoder")
    for date, place, value in (("2026-01-01", folder.path / "results" / "m", 0.4), ("2026-01-02", tmp_path / "x", 0.6)):
        row = Measurement(
            folder.name,
            "decoder",
            "nano",
            0,
            "lm_eval.conditional",
            1,
            "offline_piqa",
            "acc_norm",
            value,
            100,
            0.05,
            "last",
            True,
        )
        place.mkdir(parents=True)
        append(place / f"measurements_{date}.jsonl", [row])
    assert load(synthetic.root).measurements["value"].tolist() == [0.4]
    build(synthetic.root, tmp_path / "out", records=tmp_path / "x")
    comparison = pd.read_csv(tmp_path / "out" / "comparison.csv")
    assert comparison["decoder"].tolist() == [0.6] and comparison["task"].tolist() == ["offline_piqa"]
    groups = (tmp_path / "out" / "groups.md").read_text()
    assert "0.600 [" in groups and "(1 of 10 tasks)" in groups and "lacks arc_challenge" in groups


def test_groups_are_means_as_published(synthetic: Any) -> None:
    folder = bare(synthetic, "encoder")
    for place, (task, metric) in enumerate(GLUE.items()):
        write(folder, f"finetune.{task}.bidirectional", {(task, metric): place / 10, (task, f"{metric}_dev"): 0.5})
    write(
        folder,
        "mteb.untrained.mean",
        {
            ("scifact", "ndcg_at_10"): 0.2,
            ("scifact", "index_bytes"): 1e6,  # what a search costs, and a width, are not scores of the task
            ("scifact/width_32", "ndcg_at_10"): 0.1,
            ("nfcorpus", "ndcg_at_10"): 0.4,
        },
        provenance={"task_type": "Retrieval"},
    )
    row = {("stsb", "cosine_spearman"): 0.4}
    write(folder, "mteb.untrained.mean", row, provenance={"task_type": "STS"})
    means = group_means(load(synthetic.root)).set_index(["group", "way"])["value"]
    assert means[("GLUE", "best of each by dev")] == pytest.approx(0.35)
    assert means[("MTEB, Retrieval", "mean, untrained")] == pytest.approx(0.3)
    assert means[("MTEB, mean over types", "mean, untrained")] == pytest.approx(0.35)


def test_size_is_a_numeric_axis_of_four_kinds(synthetic: Any) -> None:
    for size, hidden in (("nano", 128), ("micro", 256)):
        for kind in ("encoder", "decoder", "enc-from-dec", "dec-from-enc"):
            folder = synthetic.add(kind, size=size)
            folder.config_file.write_text(f"model: {{vocab_size: 1000, hidden_size: {hidden}}}\n")
    recorded = load(synthetic.root)
    figure = against_size(recorded, estimates.cells(recorded))
    assert figure is not None and set(figure.data["embedding"]) == {128_000, 256_000}
    assert figure.data.groupby("member")["other"].nunique().tolist() == [2] * 4
    assert "Embedding parameters" in rulers_table(recorded).header


def test_an_error_that_is_not_known_draws_no_band(synthetic: Any) -> None:
    folder = bare(synthetic, "encoder")
    write(folder, "agreement", {("world", "accuracy"): 0.6}, standard_error=None)
    low, high = spans(load(synthetic.root).trajectory)
    assert np.isnan(low).all() and np.isnan(high).all()


def test_titles_and_ticks_of_occupations_do_not_touch(synthetic: Any) -> None:
    for kind in ("encoder", "decoder"):
        folder = bare(synthetic, kind)
        items = [
            Item(
                folder.name,
                "pronouns",
                task,
                f"{task}{i}",
                0.4,
                {"occupation": f"o{i}", "female": 0.4, "male": 0.4, "truth_female": i / 9},
            )
            for task in ("winogender", "world")
            for i in range(10)
        ]
        write(
            folder, "pronouns", {("world", "probability_female"): 0.4, ("winogender", "probability_female"): 0.4}, items
        )
    figure = occupations(load(synthetic.root), "nano on world")
    assert figure is not None and set(figure.data["model"]) == {0.5}
    figure.figure.canvas.draw()
    axes = figure.figure.axes
    assert [axis.get_xlabel() for axis in axes] == ["share of women (statistics)"] * 2 + [
        "share of she in the text"
    ] * 2
    texts = [
        text
        for axis in axes
        for text in (axis.title, axis.xaxis.label, *axis.get_xticklabels(), *axis.get_yticklabels())
    ]
    boxes = [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]
    assert not any(left.overlaps(right) for place, left in enumerate(boxes) for right in boxes[:place])


def test_tasks_that_cannot_carry_a_comparison_are_beside_the_main_table(
    synthetic: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {"clear": (0.9, 0.7), "guessed": (0.5, 0.51), "alike": (0.8, 0.803)}
    for seed in (0, 1):
        for place, kind in enumerate(("encoder", "decoder")):
            folder = bare(synthetic, kind, seed)
            for task, values in scores.items():
                row = {("t", "accuracy"): values[place] + 0.01 * seed * (task == "alike") + 0.001 * seed}
                write(folder, f"agreement.{task}", row, reference=0.5)
    build(synthetic.root, tmp_path / "out")
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Left out of the main table")]
    assert len(said) == 1 and "2 of 3 rows" in said[0] and "1 at floor" in said[0] and "1 below the noise" in said[0]
    left_out = pd.read_csv(tmp_path / "out" / "comparison.csv").set_index("protocol")["left_out"].fillna("")
    reasons = {"agreement.clear": "", "agreement.guessed": "at floor", "agreement.alike": "below the noise"}
    assert left_out.to_dict() == reasons
    main, beside = ((tmp_path / "out" / f"{name}.md").read_text() for name in ("comparison", "left_out"))
    assert said[0] in main and "clear" in main and "guessed" not in main
    assert "at floor" in beside and "below the noise" in beside and "clear" not in beside


def test_the_mean_of_a_group_has_the_noise_of_runs_and_items(synthetic: Any) -> None:
    generator = np.random.default_rng(4)
    hits = generator.integers(0, 2, (2, 2, 2, 60)).astype(float)  # seeds, members, tasks, items
    for seed in (0, 1):
        for place, kind in enumerate(("encoder", "decoder")):
            folder = bare(synthetic, kind, seed)
            for task, name in enumerate(("sst2", "rte")):
                protocol, values = f"finetune.{name}.mean", hits[seed, place, task]
                items = scored(folder, protocol, name, values, np.arange(60) // 3)
                write(folder, protocol, {(name, "accuracy"): float(values.mean())}, items)
    means = group_means(load(synthetic.root)).set_index("member")
    assert set(means["over"]) == {"2 seeds and items"}
    difference = means.loc["encoder − decoder"]
    assert difference["value"] == pytest.approx(hits[:, 0].mean() - hits[:, 1].mean())
    assert difference["value"] == pytest.approx(means.loc["encoder", "value"] - means.loc["decoder", "value"])
    steps = (hits[:, 0] - hits[:, 1]).mean((1, 2))  # by seed
    alone = abs(steps[0] - steps[1]) / 2 * 12.706
    each = (hits[:, 0] - hits[:, 1]).mean(0)  # tasks, items
    sums = each.reshape(2, 20, 3).mean(2)
    least = 1.96 * ((sums.var(1, ddof=1) / 20).sum() / 4) ** 0.5
    assert difference["high"] - difference["value"] >= max(alone, least) * 0.999
    assert 0 < difference["p"] < 1 and means["low"].notna().all()


def test_embeddings_have_the_pooling_that_dev_prefers(synthetic: Any) -> None:
    scores = {"mean": (0.3, 0.6), "lasttoken": (0.4, 0.5)}  # test, dev
    for kind in ("encoder", "decoder"):
        folder = bare(synthetic, kind)
        for pooling, (test, dev) in scores.items():
            shift = 0.3 * (kind == "decoder" and pooling == "lasttoken")
            rows = {("stsb", "cosine_spearman"): test, ("docs.dev", "ndcg_at_10_dev"): dev + shift}
            write(folder, f"mteb.contrastive.{pooling}", rows, provenance={"task_type": "STS"})
    cells = estimates.cells(load(synthetic.root))
    chosen = cells[(cells["protocol"] == "mteb.contrastive.best_by_dev") & (cells["task"] == "stsb")].dropna(
        subset=["value"]
    )
    assert chosen.set_index("member")["value"].to_dict() == {"encoder": 0.3, "decoder": 0.4}
    groups = group_means(load(synthetic.root))
    assert "best of each by dev, contrastive" in set(groups["way"]) and "MTEB, STS" in set(groups["group"])


def test_samples_beside_harness_records_are_paired_and_clustered(synthetic: Any) -> None:
    generator = np.random.default_rng(5)
    hits = np.repeat(generator.integers(0, 2, (2, 10)), 4, axis=1)  # ten passages of four questions
    for place, kind in enumerate(("decoder", "dec-from-enc")):
        folder = bare(synthetic, kind)
        value = float(hits[place].mean())
        write(folder, "x", {("t", "acc"): 0.5})
        row = Measurement(
            folder.name, kind, "nano", 0, "lm_eval.conditional", 1, "boolq", "acc", value, 40, 0.01, "last", True
        )
        append(folder.path / "measurements_2026-01-01.jsonl", [row])
        rows = [
            {"doc_id": i, "doc": {"passage": f"p{i // 4}"}, "filter": "none", "metrics": ["acc"], "acc": float(hit)}
            for i, hit in enumerate(hits[place])
        ]
        file = folder.path / "samples_boolq_2026-01-01.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recorded = load(synthetic.root)
    difference = estimates.differences(recorded).set_index("protocol").loc["lm_eval.conditional"]
    steps = (hits[1] - hits[0]).reshape(10, 4).mean(1)
    assert (
        difference["over"] == "items" and difference["high"] - difference["value"] > 2.2 * steps.std(ddof=1) / 10**0.5
    )


def test_bits_per_byte_have_a_verdict_where_they_are_the_score() -> None:
    rows = [("heldout_clm", "bits_per_token"), ("heldout_clm", "bits_per_byte"), ("heldout_clm", "loss")]
    rows.append(("heldout_likelihood.left_to_right", "bits_per_byte"))
    frame = pd.DataFrame([{"protocol": protocol, "task": "world", "metric": metric} for protocol, metric in rows])
    assert list(family(frame, None) != "") == [True, False, False, True]
