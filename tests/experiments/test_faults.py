"""The fault campaign: it empties only a folder that an earlier campaign made, and checks its arguments before."""

from pathlib import Path

import pytest

from experiments.faults import main


def start(out: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> int | str | None:
    """The exit status of the command in this process."""
    monkeypatch.setattr("sys.argv", ["faults", f"out={out}", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.mark.parametrize("options", [[], ["kills=0"], ["members=[nobody]"]])
def test_a_folder_of_others_is_not_emptied(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "weights").write_text("years of work")
    assert start(tmp_path / "runs", monkeypatch, *options) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["weights"]
