"""What the runs of a folder differ in, by the keys of their configuration: the cells of a sweep that no study's file lists.

A conversion has its parent's settings and its own `budget`, `start` and `adapter`; the rest of its recipe is under
`conversion.`. Its seed is that of its lineage, as in a study.
"""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis import wording
from ettin_core.records.folders import RunFolder

SEED, CONVERSION_SEED = "seed", "conversion.seed"
BESIDE = ("checkpoint", "fingerprint", "parent", "seeds")  # not a setting, or named by another key
# What names a whole file of settings: a key that follows from one of these is not a further axis.
LEADERS = ("member", "size", "corpus", "budget", "start", "adapter.rank", "optimizer.name", "recipe.tokens")
NEAR = 5e-3  # a budget is known to this share of it
SHOWN = 8  # values that an error lists

Settings = dict[str, Any]


def settings_of(folders: Sequence[RunFolder]) -> dict[str, Settings]:
    """The settings of every run by dotted key, and its seed (a text where its seeds differ)."""
    known = {folder.name: folder for folder in folders}
    settings: dict[str, Settings] = {}
    for name in known:
        _add(name, known, settings)
    return _with_seeds(settings)


def chosen(folders: Sequence[RunFolder], where: Mapping[str, Any]) -> list[RunFolder]:
    """The runs with these settings (of a list: any of its values). Raises ValueError for a key or value that no run has."""
    settings, wanted = settings_of(folders), flat(where)
    keys = sorted({key for of_run in settings.values() for key in of_run if key.partition(".")[0] not in BESIDE})
    for key, value in wanted.items():
        if key not in keys:
            raise ValueError(f"where.{key}={value!r} is not a setting of these runs; {_suggestion(key, keys)}")
        levels = sorted({_key(of_run.get(key)) for of_run in settings.values()})
        if not any(_is_one(of_run.get(key), value) for of_run in settings.values()):
            shown = ", ".join(levels[:SHOWN]) + (", ..." if len(levels) > SHOWN else "")
            raise ValueError(f"where.{key}={value!r} is of no run; they have {shown}.")
    kept = [
        folder
        for folder in folders
        if all(_is_one(settings[folder.name].get(key), value) for key, value in wanted.items())
    ]
    if not kept:
        raise ValueError(f"where={dict(wanted)!r} leaves no run: none has all of these settings; drop one of them.")
    return kept


def plan(folders: Sequence[RunFolder], elsewhere: bool = False) -> dict[str, Any]:
    """The cells, analysis and claim of a folder's runs as study.json would hold them; empty where they are a plain pair.

    They are a sweep where runs of one member, size and corpus differ in more than the seed, or where nothing was
    evaluated, here or `elsewhere` (by lm-eval), and only training can be reported. Raises ValueError for runs that differ
    in nothing.
    """
    settings = settings_of(folders)
    axes, follows = axes_of(settings)
    points = {name: tuple(_key(of_run.get(axis)) for axis in axes) for name, of_run in settings.items()}
    places: dict[tuple[Any, ...], set[tuple[str, ...]]] = {}
    taken: dict[tuple[Any, ...], str] = {}
    for folder in folders:
        of_run = settings[folder.name]
        places.setdefault(tuple(of_run[key] for key in LEADERS[:3]), set()).add(points[folder.name])
        earlier = taken.setdefault((*points[folder.name], of_run[SEED]), folder.name)
        if earlier != folder.name:
            raise ValueError(
                f"runs={[earlier, folder.name]!r} have the same settings and seed; move one of them elsewhere."
            )
    if all(len(levels) == 1 for levels in places.values()) and (
        elsewhere or any(folder.evaluations() for folder in folders)
    ):
        return {}
    members = wording.members_first({of_run["member"] for of_run in settings.values()})
    order = sorted(
        folders, key=lambda run: (run.summary().get("parameters", 0), members.index(run.summary()["member"]))
    )
    cells = [
        {
            "name": folder.name,
            "run": folder.name,
            "parent": folder.summary().get("parent"),
            "axes": {axis: level(settings[folder.name].get(axis)) for axis in axes}
            | {SEED: settings[folder.name][SEED]},
        }
        for folder in order
    ]
    return {"cells": cells, "analysis": {"kind": "sweep"}, "claim": claim(settings, axes, follows)}


def axes_of(settings: Mapping[str, Settings]) -> tuple[list[str], dict[str, str]]:
    """The keys in which runs differ (the member always), and those that follow from one of them, each with that one."""
    runs = list(settings.values())
    keys = [key for key in _differing(runs) if key.partition(".")[0] not in (*BESIDE, SEED)]
    order = sorted(dict.fromkeys(["member", *keys]), key=lambda key: _place(key, keys))
    axes: list[str] = []
    follows: dict[str, str] = {}
    for key in order:
        leader = next((axis for axis in axes if axis in LEADERS and _determines(axis, key, runs)), None)
        if leader is None:
            axes.append(key)
        else:
            follows[key] = leader
    return axes, follows


def claim(settings: Mapping[str, Settings], axes: list[str], follows: Mapping[str, str]) -> str:
    """What the runs differ in, in a sentence or two."""
    varied = [axis for axis in axes if len({_key(of_run.get(axis)) for of_run in settings.values()}) > 1]
    seeds = len({of_run[SEED] for of_run in settings.values()})
    text = f"Runs that differ in {', '.join(varied)}" if varied else "Runs of one configuration"
    text += f", over {seeds} seeds." if seeds > 1 else ", with one seed."
    leaders = list(dict.fromkeys(follows.values()))
    followers = [
        f"{', '.join(_sections(key for key in follows if follows[key] == leader))} with {leader}" for leader in leaders
    ]
    text += f" What differs together with these: {'; '.join(followers)}." if followers else ""
    return f"{text} All else in their configurations is equal."


def level(value: Any) -> Any:
    """A level of an axis: a number or word as it is, anything else as text."""
    return (
        value
        if value is None or isinstance(value, str | int | float) and not isinstance(value, bool)
        else spelled(value)
    )


def spelled(value: Any) -> str:
    """A value as on the command line, near enough to be read."""
    return _key(value).replace('"', "")


def flat(values: Mapping[str, Any], path: str = "") -> Settings:
    """Nested mappings by dotted key."""
    result: Settings = {}
    for key, value in values.items():
        name = f"{path}.{key}" if path else str(key)
        result |= flat(value, name) if isinstance(value, Mapping) and value else {name: value}
    return result


def _add(name: str, known: Mapping[str, RunFolder], settings: dict[str, Settings], below: tuple[str, ...] = ()) -> None:
    if name in settings:
        return
    folder = known[name]
    config, summary = folder.config(), folder.summary()
    of_run = flat(config) | {key: summary[key] for key in ("member", "size", "corpus")}
    if merge := _mapping(config.get("merge")):
        of_run |= {"merge.parents": _members(merge.get("parents") or (), known)}
        of_run = {key: value for key, value in of_run.items() if not key.startswith("merge.base")}
        of_run |= {"merge.base": _members([merge["base"]], known)} if merge.get("base") else {}
    parent = config.get("parent")
    seeds = list(_mapping(config.get("seeds")).values())
    if not isinstance(parent, Mapping):
        settings[name] = of_run | {SEED: summary[SEED] if len(set(seeds)) < 2 else "/".join(map(str, seeds))}
        return
    recipe = {key: value for key, value in of_run.items() if key.startswith("recipe.")}
    rest = {key: value for key, value in of_run.items() if key not in recipe}
    converted = {f"conversion.{key}": value for key, value in recipe.items() if key != "recipe.tokens"}
    source = str(parent.get("run"))
    if source not in known or source in (name, *below):  # elsewhere: the conversion is known by its name
        settings[name] = (
            rest | converted | {"parent_run": source, "budget": recipe.get("recipe.tokens"), SEED: summary[SEED]}
        )
        return
    _add(source, known, settings, (name, *below))
    share = _count(recipe.get("recipe.tokens")) / max(1, _count(settings[source].get("recipe.tokens")))
    phases = _mapping(_mapping(known[source].config().get("recipe")).get("phases")).values()
    prefixes = [_mapping(phase).get("prefix") for phase in phases]
    ended = str(parent.get("checkpoint")).rstrip("0123456789") in prefixes[-1:]
    lineage = {key: value for key, value in settings[source].items() if key not in rest}
    settings[name] = lineage | rest | converted | {
        "parent_member": settings[source]["member"],
        "budget": _rounded(share),
        "start": "after_decay" if ended else "before_decay",
        SEED: settings[source][SEED],
        CONVERSION_SEED: _mapping(config.get("seeds")).get("order"),
    }  # fmt: skip


def _members(parents: Sequence[Any], known: Mapping[str, RunFolder]) -> str:
    """The members of a merge's parents, the same for every seed; a run that is elsewhere by its name.

    A parent of another seed than the first names its seed: merges of one run with two others are not the same.
    """
    names: list[str] = []
    seeds = [
        known[run].summary().get(SEED) for run in (str(_mapping(item).get("run")) for item in parents) if run in known
    ]
    for parent in map(_mapping, parents):
        run = str(parent.get("run"))
        summary = known[run].summary() if run in known else {}
        last = parent.get("checkpoint") == summary.get("final_checkpoint")
        drawn = f" s{summary[SEED]}" if summary and summary[SEED] != seeds[0] else ""
        names.append(summary.get("member", run) + drawn + ("" if last else f"@{parent.get('checkpoint')}"))
    return " + ".join(names)


def _mapping(value: Any) -> Mapping[str, Any]:
    """A part of a configuration; nothing where a damaged file holds something else there."""
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> float:
    """A number of tokens; 0 where a damaged file holds something else."""
    return value if isinstance(value, int | float) else 0


def _key(value: Any) -> str:
    """A value as text that is equal where values are."""
    return json.dumps(value, default=str)


def _rounded(share: float) -> float:
    """The shortest number close to a share, of which whole steps are all that is known."""
    return next(
        (short for digits in range(1, 4) if abs((short := float(f"{share:.{digits}g}")) - share) <= NEAR * share), share
    )


def _with_seeds(settings: dict[str, Settings]) -> dict[str, Settings]:
    """The settings, each run's seed with its conversion's where a lineage was converted with several; seeds of one type."""
    lineages: dict[Any, set[Any]] = {}
    for of_run in settings.values():
        if CONVERSION_SEED in of_run:
            lineages.setdefault(of_run[SEED], set()).add(of_run[CONVERSION_SEED])
    several = any(len(seeds) > 1 for seeds in lineages.values())
    seeds = {
        name: f"{of_run[SEED]}/{of_run[CONVERSION_SEED]}" if several and CONVERSION_SEED in of_run else of_run[SEED]
        for name, of_run in settings.items()
    }
    if any(isinstance(seed, str) for seed in seeds.values()):
        seeds = {name: str(seed) for name, seed in seeds.items()}
    return {
        name: {key: value for key, value in of_run.items() if key != CONVERSION_SEED} | {SEED: seeds[name]}
        for name, of_run in settings.items()
    }


def _differing(runs: Sequence[Settings]) -> list[str]:
    """The keys in which runs differ; one that a run lacks is null there."""
    keys = dict.fromkeys(key for run in runs for key in run)
    return [key for key in keys if len({_key(run.get(key)) for run in runs}) > 1]


def _place(key: str, keys: list[str]) -> tuple[int, int]:
    return (LEADERS.index(key), 0) if key in LEADERS else (len(LEADERS), keys.index(key))


def _determines(leader: str, key: str, runs: Sequence[Settings]) -> bool:
    """Whether runs that agree on the leader agree on the key."""
    pairs = {(_key(run.get(leader)), _key(run.get(key))) for run in runs}
    return len(pairs) == len({level for level, _ in pairs})


def _sections(keys: Iterable[str]) -> list[str]:
    """Keys, those of one section together."""
    return list(dict.fromkeys(key.partition(".")[0] for key in keys))


def _is_one(value: Any, wanted: Any) -> bool:
    """Whether a setting is the wanted value, or one of several."""
    return value == wanted or (isinstance(wanted, Sequence) and not isinstance(wanted, str) and value in list(wanted))


def _suggestion(key: str, keys: list[str]) -> str:
    """What may have been meant."""
    by_end = [name for name in keys if name.rpartition(".")[2] == key.rpartition(".")[2]]
    near = by_end or difflib.get_close_matches(key, keys, n=3, cutoff=0.5)
    if not near:
        ends = {name.rpartition(".")[2]: name for name in keys}
        near = [ends[end] for end in difflib.get_close_matches(key.rpartition(".")[2], ends, n=3, cutoff=0.6)]
    return f"did you mean {' or '.join(near)}?" if near else f"use e.g. {', '.join(keys[:SHOWN])}."
