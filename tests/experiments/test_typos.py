"""A slip of the pen is answered in one line, with what was meant."""

import sys
from collections.abc import Callable

import pytest

from analysis import report
from experiments import __main__ as ettin
from experiments import search, study, train

NEAR = {
    "a key": (train.main, "recipe.tokenz=3", "recipe.tokenz=3 is not a key of train; did you mean 'recipe.tokens'?"),
    "a key without its group": (train.main, "learning_rate=3", "'size.learning_rate' or 'optimizer.learning_rate'?"),
    "a phase": (train.main, "recipe.phases.pretrian.share=1", "did you mean 'recipe.phases.pretrain.share'?"),
    "a key that is taken away": (
        train.main,
        "~precisoin",
        "~precisoin is not a key of train; did you mean 'precision'?",
    ),
    "a group": (train.main, "sizee=nano", "did you mean 'size'?"),
    "a group in a place": (study.main, "recipee@conversion=smoke", "did you mean 'recipe@conversion'?"),
    "a size": (train.main, "size=nanno", "size='nanno' is not there; did you mean 'nano'? There are 150m, "),
    "a study": (study.main, "study=demoo", "study='demoo' is not there; did you mean 'demo'?"),
    "a member of a search": (search.main, "members=[encodr]", "did you mean 'encoder'?"),
    "a direction": (train.main, "member.direction=casual", "did you mean 'causal'?"),
    "a curation": (train.main, "curation@data.curation=wb", "did you mean 'web'?"),
    "a protocol": (study.main, "suite.protocols=[agreemnt]", "did you mean 'agreement'?"),
    "a launcher": (train.main, "hydra/launcher=jobib", "did you mean 'joblib'?"),
    "an option": (train.main, "--dryrun", "--dryrun is not an option; did you mean 'dry_run=...'?"),
    "no key at all": (train.main, "nano", "'nano' is not a key=value; --help lists the keys."),
    "several values": (train.main, "seed=1,2", "add -m to run each, or give a list, seed=[1,2]."),
    "a name in a mapping": (train.main, "data.at_least.q=1", "+data.at_least.q=1 adds it."),
    "a key of a report": (report.main, "runz=3", "runz=3 is not a key of report; did you mean 'runs'?"),
    "a command": (ettin.main, "trian", "command='trian' is not a command; did you mean 'train'?"),
}


@pytest.mark.parametrize("case", NEAR)
def test_what_was_meant_is_said(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: object
) -> None:
    main, argument, message = NEAR[case]
    error = message_of(main, argument, monkeypatch, capsys, tmp_path)
    assert message in error and len(error.splitlines()) == 1


def message_of(
    main: Callable[[], None],
    argument: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: object,
) -> str:
    """What a command that ends with a user's mistake says."""
    monkeypatch.chdir(str(place))
    monkeypatch.setattr(sys, "argv", ["command", argument])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    return capsys.readouterr().err.strip()
