"""What comes from a file of anyone's making cannot steer a terminal, and no terminal ends in an encoding error."""

import io
import sys
from collections.abc import Callable
from functools import partial

import pytest
from rich.text import Text

from supermask.analysis import ZeroCount, ZerosTable
from supermask.cli.heat import zeros_map
from supermask.cli.main import main
from supermask.cli.printing import (
    PlainTable,
    answer,
    facts_table,
    note,
    plain_table,
    print_json,
    print_lines,
    printable,
    show,
)

EVIL = "a\x1b[2J\nb\r\x9b\u202e\u2028\udc80c"
SAFE = "a?[2J?b?????c"


@pytest.mark.parametrize(
    "print_it",
    [
        lambda: print_lines([EVIL]),
        lambda: note(EVIL),
        lambda: answer({}, [EVIL], as_json=False),
        lambda: show(facts_table([(EVIL, "x")])),
        lambda: show(facts_table([("x", EVIL)])),
        lambda: show(plain_table("name", ">number", rows=[(EVIL, "1")])),
        lambda: show(plain_table("name", rows=[(Text(EVIL.replace("\n", "?"), style="bold"),)])),
        lambda: show(plain_table(EVIL.replace("\n", "?"))),
    ],
)
def test_nothing_steers_the_terminal(print_it: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> None:
    print_it()
    printed = "".join(capsys.readouterr())
    assert SAFE[:6] in printed  # rich takes some of these for narrower than they are, and folds the name
    assert all(line.isprintable() for line in printed.split("\n"))


@pytest.mark.parametrize("name", ["x" * 300, "two words " * 30, "\u202e" * 300])
@pytest.mark.parametrize("table", [plain_table, partial(plain_table, folds=True), lambda *_, rows: facts_table(rows)])
def test_no_long_name_is_cut(
    name: str, table: Callable[..., PlainTable], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    show(table("name", "value", rows=[(name, "first"), ("last", name)]))
    printed = capsys.readouterr().out
    assert "…" not in printed and "first" in printed and "last" in printed
    marks = "?" if "\u202e" in name else "xtwords"
    assert sum(map(printed.count, marks)) >= 2 * sum(map(printable(name).count, marks))


def test_roles_of_a_file_do_not_either(capsys: pytest.CaptureFixture[str]) -> None:
    role = EVIL.replace("_", "")
    show(zeros_map(ZerosTable(roles=(role,), blocks=(0,), cells={(role, 0): ZeroCount(1, 4)})))
    printed = capsys.readouterr().out
    assert SAFE in printed and all(line.isprintable() for line in printed.split("\n"))


def test_tabs_stay_for_whoever_reads_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_lines(["id\tprediction"])
    assert capsys.readouterr().out == "id\tprediction\n"


def test_json_is_plain_ascii_without_numbers_that_json_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"evil": EVIL, "numbers": [float("nan"), (1.5, float("inf"))]})
    printed = capsys.readouterr().out
    assert printed.isascii() and "\x1b" not in printed
    assert '"numbers": [\n  null,\n  [\n   1.5,\n   null\n  ]\n ]' in printed


@pytest.mark.parametrize(("arguments", "code"), [(["train", "--help"], 0), (["tasks"], 0), (["inspect", "übung"], 2)])
def test_a_terminal_that_knows_ascii_alone_shows_question_marks(
    arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    screens = [io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict") for _ in range(2)]
    monkeypatch.setattr(sys, "argv", ["supermask", *arguments])
    monkeypatch.setattr(sys, "stdout", screens[0])
    monkeypatch.setattr(sys, "stderr", screens[1])
    with pytest.raises(SystemExit) as ended:
        main()
    for screen in screens:
        screen.flush()
    texts = [screen.buffer.getvalue().decode("ascii") for screen in screens]  # type: ignore[attr-defined]
    assert ended.value.code == code, texts
    assert texts[code // 2]
    assert "unexpected" not in texts[1]
    assert code == 0 or "?bung" in texts[1]
