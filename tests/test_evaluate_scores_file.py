"""Scores of other tools: the files that are read, how rows find their pictures, and what is refused."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgiqa.datasets import Split
from dgiqa.errors import UsageError
from dgiqa.evaluation import Predictions
from dgiqa.evaluation.results import Missing
from dgiqa.evaluation.scores_file import match, names_any, read_scores, write_scores

ROOT = Path("set")


def make_split(*names: str) -> Split:
    mos = np.linspace(0, 1, len(names), dtype=np.float32)
    return Split("made", "test", tuple(ROOT / name for name in names), mos, ("",) * len(names))


SPLIT = make_split("Images/a.jpg", "Images/b.jpg", "Images/c.jpg", "Images/d.jpg")


def write(folder: Path, text: str, name: str = "scores.csv") -> Path:
    file = folder / name
    file.write_bytes(text.encode())
    return file


def scores_of(folder: Path, text: str, column: str | None = None) -> list[tuple[str, float]]:
    (scores,) = read_scores(write(folder, text), column)
    return [(row.name, row.score) for row in scores.rows]


TWO = [("a.jpg", 0.5), ("b.jpg", -2e-3)]


@pytest.mark.parametrize(
    "text",
    [
        "path,score\na.jpg,0.5\nb.jpg,-2e-3\n",
        "a.jpg,0.5\nb.jpg,-2e-3\n",
        "a.jpg;0.5\r\nb.jpg;-2e-3\r\n",
        "image name\tmos\tpredicted\na.jpg\t1\t0.5\nb.jpg\t2\t-2e-3\n",
        "\ufeffFile , Quality\n\na.jpg , 0.5\n\nb.jpg , -2e-3\n",
        '"img","piqe score"\n"a.jpg","0.5"\n"b.jpg","-2e-3"\n',
        "id,name,score,path\n7,x,0.5,a.jpg\n8,y,-2e-3,b.jpg",
    ],
    ids=["plain", "no header", "semicolons", "tabs", "blanks and a mark", "quotes", "path before name"],
)
def test_files_that_are_read(tmp_path: Path, text: str) -> None:
    assert scores_of(tmp_path, text) == TWO


def test_a_column_is_chosen_by_name(tmp_path: Path) -> None:
    text = "image,score_a,score_b\na.jpg,0.5,1\nb.jpg,-2e-3,2\n"
    assert scores_of(tmp_path, text, "score_a") == TWO
    assert scores_of(tmp_path, text, "score_b") == [("a.jpg", 1), ("b.jpg", 2)]


def test_a_model_column_makes_several(tmp_path: Path) -> None:
    file = write(tmp_path, "path,model,score\na.jpg,x,1\na.jpg,y,2\nb.jpg,x,3\nb.jpg,,4\n")
    found = {scores.model: [(row.line, row.score) for row in scores.rows] for scores in read_scores(file)}
    assert found == {"x": [(2, 1), (4, 3)], "y": [(3, 2)], "scores.csv": [(5, 4)]}


@pytest.mark.parametrize(
    ("text", "column", "told"),
    [
        ("", None, "is empty; it needs a column of paths and one of scores"),
        ("\n \n", None, "is empty; it needs a column of paths and one of scores"),
        ("path,score\n", None, "has a header and no rows; it needs a row for each picture"),
        ("id,score\n1,2\n", None, "no column of paths among id, score; name one path, name, image or file"),
        (
            "path,mos\na,1\n",
            None,
            "0 columns could be the score: none among path, mos; choose with --column NAME",
        ),
        (
            "path,score,pred\na,1,2\n",
            None,
            "2 columns could be the score: score, pred; choose with --column NAME",
        ),
        ("path,score\na,1\n", "Score", "no column Score; it has path, score"),
    ],
)  # fmt: skip
def test_files_without_their_columns_say_so(tmp_path: Path, text: str, column: str | None, told: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        read_scores(file, column)
    assert str(caught.value) == f"{file}: {told}"


NO_JUDGING = "can't be judged; leave the cell empty where a picture has no score"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("path,score\na,1\nb,good\n", "line 3: 'good' is no number; is it the right column? --column NAME"),
        ("path,score\na,1\nb,nan\n", f"line 3: 'nan' {NO_JUDGING}"),
        ("path,score\na,-inf\n", f"line 2: '-inf' {NO_JUDGING}"),
        ("path,quality,low,high\na,50,60,40\n", "line 2: low 60 and high 40 are no interval in 0..100"),
        ("path,quality,low,high\na,50,40,101\n", "line 2: low 40 and high 101 are no interval in 0..100"),
        ('path,score\n"' + "a" * 200_000 + '",1\n', "line 2: is no CSV (field larger than field limit (131072))"),
    ],
    ids=["word", "nan", "infinite", "turned", "beyond", "huge"],
)  # fmt: skip
def test_cells_that_are_no_scores_are_named_by_line(tmp_path: Path, text: str, told: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        read_scores(file)
    assert str(caught.value) == f"{file}, {told}"


def test_files_that_are_not_there_say_so(tmp_path: Path) -> None:
    for file, why in ((tmp_path / "none.csv", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError) as caught:
            read_scores(file)
        assert str(caught.value) == f"{file}: can't be read ({why})"


@settings(max_examples=50, deadline=None)
@given(st.text('a1,;.\t"\n é\\', max_size=60))
def test_no_file_is_a_crash(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = write(tmp_path_factory.getbasetemp(), text, "any.csv")
    with contextlib.suppress(UsageError):
        assert all(scores.rows for scores in read_scores(file))


@pytest.mark.parametrize(
    "names",
    [
        ("set/Images/a.jpg", "set/Images/b.jpg", "set/Images/c.jpg"),
        ("Images/a.jpg", "./Images/b.jpg", r"Images\c.jpg"),
        ("a.jpg", "B.JPG", "elsewhere/c.jpg"),
    ],
    ids=["whole path", "under the folder", "file name"],
)
def test_rows_find_their_pictures(tmp_path: Path, names: tuple[str, ...]) -> None:
    rows = "".join(f"{name},{i}\n" for i, name in enumerate(names))
    (scores,) = read_scores(write(tmp_path, f"path,score\n{rows}x.jpg,9\n"))
    found = match(scores, SPLIT, ROOT)
    np.testing.assert_array_equal(found.predictions.scores, [0, 1, 2, np.nan])
    by_name = names[0] == "a.jpg"
    assert (found.by_path, found.by_name, found.unused) == ((0, 3, 1) if by_name else (3, 0, 1))
    assert found.predictions.missing == (Missing(str(ROOT / "Images/d.jpg"), "no score in scores.csv"),)
    assert found.predictions.model == "scores.csv"


def test_lower_is_better_turns_the_scores_over(tmp_path: Path) -> None:
    (scores,) = read_scores(write(tmp_path, "a.jpg,0\nb.jpg,1\nc.jpg,2\n"))
    found = match(scores, SPLIT, ROOT, lower_is_better=True).predictions.scores
    np.testing.assert_array_equal(found, [0, -1, -2, np.nan])
    assert not np.signbit(found[0])


def test_reasons_for_empty_scores_are_kept(tmp_path: Path) -> None:
    (scores,) = read_scores(write(tmp_path, "path,score,error\na.jpg,1,\nb.jpg,2,\nc.jpg,3,\nd.jpg,,it is broken\n"))
    assert match(scores, SPLIT, ROOT).predictions.missing[0].why == "it is broken"
    (scores,) = read_scores(write(tmp_path, "path,score\na.jpg,1\nb.jpg,2\nc.jpg,3\nd.jpg,\n"))
    assert match(scores, SPLIT, ROOT).predictions.missing[0].why == "line 5 has no score"


def test_names_that_several_pictures_have_need_paths(tmp_path: Path) -> None:
    split = make_split("x/a.jpg", "y/a.jpg", "b.jpg", "c.jpg", "d.jpg")
    (scores,) = read_scores(write(tmp_path, "a.jpg,1\nb.jpg,2\nc.jpg,3\nd.jpg,4\n"))
    found = match(scores, split, ROOT).predictions
    assert [missing.why for missing in found.missing] == ["several are named a.jpg: give paths in scores.csv"] * 2
    (scores,) = read_scores(write(tmp_path, "x/a.jpg,1\ny/a.jpg,2\nb.jpg,3\nc.jpg,4\nd.jpg,5\n"))
    np.testing.assert_array_equal(match(scores, split, ROOT).predictions.scores, [1, 2, 3, 4, 5])


def test_a_picture_scored_twice_must_agree(tmp_path: Path) -> None:
    same = "a.jpg,1\na.jpg,1.0\nb.jpg,2\nc.jpg,3\n"
    (scores,) = read_scores(write(tmp_path, same))
    assert match(scores, SPLIT, ROOT).predictions.scores[0] == 1
    (scores,) = read_scores(write(tmp_path, "path,score\na.jpg,\na.jpg,1\nb.jpg,2\nc.jpg,3\n"))
    assert match(scores, SPLIT, ROOT).predictions.scores[0] == 1
    file = write(tmp_path, "a.jpg,1\nb.jpg,2\nc.jpg,3\na.jpg,4\n")
    with pytest.raises(UsageError) as caught:
        match(read_scores(file)[0], SPLIT, ROOT)
    assert str(caught.value) == (
        f"{file}: lines 1 and 4 score a.jpg differently, 1 and 4; "
        "keep one of them; a column named model keeps several models apart"
    )


def test_a_file_of_other_pictures_says_what_it_looked_for(tmp_path: Path) -> None:
    file = write(tmp_path, "path,score\nother/p.jpg,1\nother/q.jpg,2\nc.jpg,2\n")
    (scores,) = read_scores(file)
    with pytest.raises(UsageError) as caught:
        match(scores, SPLIT, ROOT)
    assert str(caught.value) == (
        f"{file}: 1 of 4 pictures of made test have a score; rows are matched by path under set, then by file name; "
        "the file's first is other/p.jpg, the split's Images/a.jpg"
    )
    assert names_any(scores, SPLIT, ROOT)
    assert not names_any(scores, make_split("e.jpg", "f.jpg"), ROOT)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=4, max_size=4))
def test_what_is_written_is_read_back_to_the_last_bit(tmp_path_factory: pytest.TempPathFactory, numbers) -> None:
    file = tmp_path_factory.getbasetemp() / "back.csv"
    scores = np.array(numbers)
    scores[3] = np.nan
    missing = (Missing(str(SPLIT.paths[3]), 'it, "too", is\nbroken'),)
    original = Predictions("m@1", scores, np.minimum(scores, 50), np.maximum(scores, 50), missing)
    write_scores(file, [(SPLIT, ROOT, original)])
    (read,) = read_scores(file)
    found = match(read, SPLIT, ROOT).predictions
    assert (found.model, found.missing) == ("m@1", missing)
    for name in ("scores", "low", "high"):
        np.testing.assert_array_equal(getattr(found, name), getattr(original, name))


def test_sets_that_share_names_are_told_apart_when_read_back(tmp_path: Path) -> None:
    splits = [dataclasses.replace(SPLIT, dataset=name) for name in ("one", "two")]
    missing = (Missing(str(SPLIT.paths[1]), "is broken"),)
    scores = np.array([10.0, np.nan, 30, 40]), np.array([15.0, 25, 35, 45])
    found = [Predictions("m@1", scores[0], missing=missing), Predictions("m@1", scores[1])]
    file = tmp_path / "both.csv"
    write_scores(file, [(split, ROOT, one) for split, one in zip(splits, found, strict=True)])
    (read,) = read_scores(file)
    for split, wanted in zip(splits, scores, strict=True):
        np.testing.assert_array_equal(match(read, split, ROOT).predictions.scores, wanted)
    part = dataclasses.replace(SPLIT, dataset="two", split="part")  # of the set, if not of the split
    np.testing.assert_array_equal(match(read, part, ROOT).predictions.scores, scores[1])
    with pytest.raises(UsageError, match="differently"):
        match(read, SPLIT, ROOT)


def test_another_tools_low_and_high_are_no_intervals(tmp_path: Path) -> None:
    (scores,) = read_scores(write(tmp_path, "path,score,low,high\na.jpg,1,-5,900\nb.jpg,2,x,\nc.jpg,3,,\n"))
    assert match(scores, SPLIT, ROOT).predictions.low is None
