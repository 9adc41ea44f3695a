"""Data sets: laws of the seeded splits, plain CSV files, pictures by name, odd and bad input, and dgiqa datasets."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dgiqa.datasets.card as cards
from dgiqa.cli import main
from dgiqa.datasets import DataSetCard, Split, check, find_dataset, list_datasets, read_split
from dgiqa.datasets.pictures import Pictures
from dgiqa.datasets.plain import SCALES, scale_of
from dgiqa.datasets.split import SEEDS, TEST_SHARE, seeded, seeded_names
from dgiqa.errors import CardError, UsageError

GROUPS = st.lists(st.sampled_from([f"i{i:02}" for i in range(30)]), min_size=1, max_size=60)
SEED = st.integers(0, SEEDS - 1)
KNOWN = "and train-0 to train-9 with test-0 to test-9"


def draw(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (4, 3), (20, 90, 200)).save(file, "PNG")


def error(dataset: str | Path, root: Path, split: str = "all") -> str:
    """The whole text of the error that reading it raises."""
    with pytest.raises(UsageError) as caught:
        read_split(str(dataset), split, root)
    return str(caught.value)


# --- seeded splits -------------------------------------------------------------------------------------------------


def part(side: str, seed: int, groups: list[str]) -> list[int]:
    found = seeded(f"{side}-{seed}", groups)
    assert found is not None
    return found.tolist()


@given(GROUPS, SEED)
def test_train_and_test_are_disjoint_and_together_all(groups: list[str], seed: int) -> None:
    train, test = part("train", seed, groups), part("test", seed, groups)
    assert sorted([*train, *test]) == list(range(len(groups)))
    assert train == sorted(train)
    assert test == sorted(test)


@given(GROUPS, SEED)
def test_a_group_is_never_on_both_sides(groups: list[str], seed: int) -> None:
    train, test = ({groups[i] for i in part(side, seed, groups)} for side in ("train", "test"))
    assert not train & test
    assert len(test) == max(1, round(TEST_SHARE * len(set(groups))))


@given(GROUPS.flatmap(lambda groups: st.tuples(st.just(groups), st.permutations(range(len(groups))))), SEED)
def test_the_order_of_rows_moves_no_group(groups_and_order: tuple[list[str], list[int]], seed: int) -> None:
    groups, order = groups_and_order
    moved = [groups[i] for i in order]
    assert {moved[i] for i in part("test", seed, moved)} == {groups[i] for i in part("test", seed, groups)}


@given(GROUPS, SEED, st.integers(1, 3))
def test_how_many_pictures_a_group_has_moves_no_group(groups: list[str], seed: int, times: int) -> None:
    more = groups * times
    assert {more[i] for i in part("test", seed, more)} == {groups[i] for i in part("test", seed, groups)}


@pytest.mark.parametrize("name", ["all", "test", "test-", "test-10", "test-٣", "val-0", "TEST-0", "test-0 "])
def test_other_names_are_no_seeded_part(name: str) -> None:
    assert seeded(name, ["a", "b"]) is None


FROZEN_TEST_0 = ["i05", "i11", "i12", "i20", "i25"]
FROZEN_ALL = "375fa756eb31c55a0284d7d84033e725ce3c6d756ce40f77b39d610897bf4a8a"


def test_the_seeded_parts_are_frozen() -> None:
    """Results that were published on ``test-3`` must mean the same pictures for ever, with every NumPy."""
    groups = [f"i{i % 25 + 1:02}" for i in range(500)]
    parts = {name: part(*name.split("-"), groups) for name in seeded_names()}  # type: ignore[arg-type]
    assert sorted({groups[i] for i in parts["test-0"]}) == FROZEN_TEST_0
    assert hashlib.sha256(json.dumps(parts).encode()).hexdigest() == FROZEN_ALL


def test_seeds_differ() -> None:
    groups = [f"i{i:02}" for i in range(25)]
    assert len({tuple(part("test", seed, groups)) for seed in range(SEEDS)}) == SEEDS


def test_files_that_lie_elsewhere_or_are_spelled_otherwise_are_in_the_same_seeded_part(tmp_path: Path) -> None:
    """Parts go by the names in the list, not by what is found on a disk."""
    names = [f"{letter}{i}.png" for i in range(10) for letter in "aB"]
    for place, spelled in (("one", str), ("two/deep", str.upper)):
        draw(*(tmp_path / place / spelled(name) for name in names))
    (tmp_path / "list.csv").write_text("path,mos\n" + "".join(f"{name},{i}\n" for i, name in enumerate(names)))
    for seed in range(3):
        one, two = (read_split(str(tmp_path / "list.csv"), f"test-{seed}", tmp_path / root) for root in ("one", "two"))
        assert [path.name.lower() for path in one.paths] == [path.name.lower() for path in two.paths]


# --- a Split -------------------------------------------------------------------------------------------------------


def test_some_takes_every_column_and_leaves_what_is_unknown() -> None:
    paths = (Path("a"), Path("b"), Path("c"))
    mos = np.array([0.1, 0.2, 0.3], np.float32)
    whole = Split("set", "all", paths, mos, ("x", "y", "z"), deviations=mos / 2, raters=7)
    found = whole.some("mine", np.array([2, 0]))
    assert (found.split, found.paths, found.subsets, found.raters) == ("mine", (paths[2], paths[0]), ("z", "x"), 7)
    assert (found.distortions, found.references) == ((), ())
    assert found.mos.tolist() == mos[[2, 0]].tolist()
    assert found.deviations is not None
    assert found.deviations.tolist() == (mos / 2)[[2, 0]].tolist()
    assert (len(whole), len(found)) == (3, 2)


# --- pictures by name ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "there", "found"),
    [
        ("a.png", "a.png", "a.png"),
        ("A.PNG", "a.png", "a.png"),
        ("./a.png", "a.png", "a.png"),
        ("sub\\a.png", "sub/a.png", "sub/a.png"),
        ("SUB/A.png", "sub/a.png", "sub/a.png"),
        ("a.png", "deep/er/a.png", "deep/er/a.png"),
        ("sub/a.png", "a.png", "a.png"),
        ("set/sub/a.png", "sub/a.png", "sub/a.png"),
        ("sub/a.png", "set/sub/a.png", "set/sub/a.png"),
        ("caf\u00e9.png", "cafe\u0301.png", "cafe\u0301.png"),
        ("sub/a.png", "other/a.png", None),
        ("a.png", "aa.png", None),
        ("a.png", "a.png.png", None),
        ("x" * 300 + ".png", "a.png", None),
    ],
)
def test_one_file(name: str, there: str, found: str | None, tmp_path: Path) -> None:
    draw(tmp_path / there)
    path = Pictures(tmp_path).find(name)
    assert path == tmp_path / (found or name)


def test_a_name_in_several_folders_needs_its_folder(tmp_path: Path) -> None:
    draw(tmp_path / "jp2k/img1.bmp", tmp_path / "jpeg/img1.bmp", tmp_path / "jpeg/img2.bmp")
    pictures = Pictures(tmp_path)
    assert pictures.find("jpeg/img1.bmp") == tmp_path / "jpeg/img1.bmp"
    assert pictures.find("JP2K\\IMG1.BMP") == tmp_path / "jp2k/img1.bmp"
    assert pictures.find("img1.bmp") == tmp_path / "img1.bmp"
    assert pictures.find("img2.bmp") == tmp_path / "jpeg/img2.bmp"
    assert pictures.find("wn/img2.bmp") == tmp_path / "wn/img2.bmp"


def test_two_names_never_come_to_one_file(tmp_path: Path) -> None:
    draw(tmp_path / "img1.bmp")
    wanted = [tmp_path / "jp2k/img1.bmp", tmp_path / "jpeg/img1.bmp"]
    assert Pictures(tmp_path).find_all(["jp2k/img1.bmp", "jpeg/img1.bmp"]) == wanted
    assert Pictures(tmp_path).find_all(["jp2k/img1.bmp", "JP2K/IMG1.BMP"]) == [tmp_path / "img1.bmp"] * 2


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="one file for both names there")
def test_names_that_differ_in_case_alone_are_kept_apart(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", tmp_path / "A.png")
    found = Pictures(tmp_path).find_all(["a.png", "A.png", "A.PNG"])
    assert found == [tmp_path / "a.png", tmp_path / "A.png", tmp_path / "A.PNG"]


def test_the_whole_way_goes_before_one_further_down(tmp_path: Path) -> None:
    draw(tmp_path / "Jpeg/a.png", tmp_path / "copy/jpeg/a.png")
    assert Pictures(tmp_path).find("jpeg/A.png") == tmp_path / "Jpeg/a.png"


# --- plain CSV -----------------------------------------------------------------------------------------------------

NAMES = ("a.png", "b.png", "c.png", "d.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures, and ``ref.png``."""
    draw(*(tmp_path / name for name in (*NAMES, "ref.png")))
    return tmp_path


def read(folder: Path, text: str | bytes, split: str = "all") -> Split:
    file = folder / "list.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_split(str(file), split, folder)


SAME = {
    "plain": "path,mos\na.png,20\nb.png,83.5\n",
    "no newline at the end": "path,mos\na.png,20\nb.png,83.5",
    "CRLF": "path,mos\r\na.png,20\r\nb.png,83.5\r\n",
    "CR": "path,mos\ra.png,20\rb.png,83.5\r",
    "byte order mark": codecs.BOM_UTF8 + b"path,mos\na.png,20\nb.png,83.5\n",
    "UTF-16": "path,mos\na.png,20\nb.png,83.5\n".encode("utf-16"),
    "quoted": '"path","mos"\n"a.png","20"\n"b.png","83.5"\n',
    "quoted after a blank": '"path", "mos"\n"a.png", "20"\n"b.png", "83.5"\n',
    "blanks": " path , mos \n a.png , 20 \n b.png , 83.5 \n",
    "semicolons, decimal commas": "path;mos\na.png;20,0\nb.png;83,5\n",
    "tabs": "path\tmos\na.png\t20\nb.png\t83.5\n",
    "capitals": "Path,MOS\na.png,20\nb.png,83.5\n",
    "other names": "img_name,mos\na.png,20\nb.png,83.5\n",
    "more columns": "n,mos,path,size\n1,20,a.png,4x3\n2,83.5,b.png,4x3\n",
    "empty lines": "\n\npath,mos\n\na.png,20\n,\nb.png,83.5\n\n",
    "backslashes": "path,mos\n.\\a.png,20\n.\\b.png,83.5\n",
    "exponents": "path,mos\na.png,2e1\nb.png,8.35E+1\n",
    "dmos": "path,dmos\na.png,80\nb.png,16.5\n",
    "a scale that is said": "path,mos 0..100\na.png,20\nb.png,83.5\n",
    "a scale that no look would tell": "path,MOS -1 .. 1.0\na.png,-0.6\nb.png,0.67\n",
    "a scale of dmos": "path,dmos 0..5\na.png,4\nb.png,0.825\n",
    "both": "path,dmos,mos\na.png,1,20\nb.png,2,83.5\n",
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME.keys())
def test_forms_of_one_file(text: str | bytes, folder: Path) -> None:
    found = read(folder, text)
    assert found.paths == (folder / "a.png", folder / "b.png")
    np.testing.assert_allclose(found.mos, [0.2, 0.835], rtol=0, atol=1e-6)
    assert (found.dataset, found.split) == (str(folder / "list.csv"), "all")
    assert (found.subsets, found.distortions, found.references) == (("", ""), ("", ""), ())
    assert (found.deviations, found.raters) == (None, 0)


def test_every_column(folder: Path) -> None:
    text = (
        "path,mos,std,ref,subset,distortion,raters\n"
        "a.png,2,1.0,REF.png,night,blur,10\n"
        "b.png,5,,,day,,13\n"
        "c.png,1,0.5,gone/ref.png,day,jpeg,\n"
    )
    found = read(folder, text)
    assert found.mos.tolist() == [0.25, 1.0, 0.0]
    assert found.deviations is not None
    np.testing.assert_array_equal(found.deviations, np.array([0.25, np.nan, 0.125], np.float32))
    assert found.references == (folder / "ref.png", None, folder / "ref.png")
    assert found.subsets == ("night", "day", "day")
    assert found.distortions == ("blur", "", "jpeg")
    assert found.raters == 12


def test_columns_without_a_value_are_as_if_not_there(folder: Path) -> None:
    found = read(folder, "path,mos,std,ref,raters\na.png,20,,,\nb.png,30,,,\n")
    assert (found.deviations, found.references, found.raters) == (None, (), 0)


@pytest.mark.parametrize(
    ("scores", "scale"),
    [
        ((0, 1), (0, 1)),
        ((0.3,), (0, 1)),
        ((1, 1), (0, 1)),
        ((1.1, 4.3), (1, 5)),
        ((0.2, 4.9), (0, 5)),
        ((0.24, 7.2), (0, 10)),
        ((3.4, 92.4), (0, 100)),
        ((0, 114.4), (0, 114.4)),
        ((-2, 2), (-2, 2)),
        ((826.5, 1846), (826.5, 1846)),
    ],
)
def test_scales_by_their_looks(scores: tuple[float, ...], scale: tuple[float, float]) -> None:
    assert scale_of(np.array(scores, float)) == scale


def test_the_scale_is_that_of_the_whole_file_whichever_part_is_read(folder: Path) -> None:
    text = "path,mos,split\na.png,0.5,low\nb.png,80,high\n"
    assert read(folder, text, "low").mos.tolist() == [np.float32(0.005)]


def test_a_csv_in_another_folder_than_its_pictures(folder: Path) -> None:
    (folder / "lists").mkdir()
    file = folder / "lists/My List.CSV"
    file.write_text(f"path,mos\na.png,20\n{folder / 'b.png'},30\n")
    assert read_split(str(file), "all", folder).paths == (folder / "a.png", folder / "b.png")
    assert error(file, folder / "lists") == (
        f"{file}: 1 of 2 pictures are missing, first {folder / 'lists/a.png'}; "
        f"its paths count from {folder / 'lists'}; --root names another folder"
    )


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="file names are Unicode there")
def test_file_names_that_are_no_utf_8(tmp_path: Path) -> None:
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    draw(file)
    assert read(tmp_path, b"path,mos\ncaf\xe9.png,20\n").paths == (file,)


def test_rows_of_one_reference_stay_together_however_it_is_written(folder: Path) -> None:
    text = "path,mos,ref\na.png,20,I01.bmp\nb.png,30,.\\i01.BMP\nc.png,40,i02.bmp\nd.png,50,I02.bmp\n"
    for seed in range(SEEDS):
        assert [path.name for path in read(folder, text, f"test-{seed}").paths] in (
            ["a.png", "b.png"],
            ["c.png", "d.png"],
        )


PARTS = {
    "path,mos,split\na.png,20,train\nb.png,30,fold 2\nc.png,40,train\nd.png,50,\n": {"train": "ac", "fold 2": "b"},
    "img_name,mos,std,official_split\na.png,20,1,0\nb.png,30,1,1\nc.png,40,1,2\nd.png,50,1,2.0\n": {
        "train": "a",
        "val": "b",
        "test": "cd",
    },
    "ref_name,dist_name,dmos,ratio802_seed123_split01,ratio802_seed123_split02\n"
    "ref.png,a.png,20,0,2\nref.png,b.png,30,0,0\nref.png,c.png,40,2,0\nref.png,d.png,50,0,0\n": {
        "train@ratio802_seed123_split01": "abd",
        "test@ratio802_seed123_split01": "c",
        "test@ratio802_seed123_split02": "a",
        "train@ratio802_seed123_split02": "bcd",
    },
    "path,mos,split,official_split\na.png,20,test,0\nb.png,30,train,2\n": {
        "test": "a",
        "train": "b",
        "train@official_split": "a",
        "test@official_split": "b",
    },
}


@pytest.mark.parametrize(("text", "parts"), PARTS.items(), ids=["split", "official", "pyiqa", "both"])
def test_parts_of_a_plain_file(text: str, parts: Mapping[str, str], folder: Path) -> None:
    for name, letters in parts.items():
        found = read(folder, text, name)
        assert (found.split, [path.stem for path in found.paths]) == (name, list(letters))
    assert error(folder / "list.csv", folder, "nobody") == (
        f"{folder / 'list.csv'}: no split nobody; known: {', '.join(['all', *parts])}, {KNOWN}"
    )


SCALES_KNOWN = "0..1, 1..5, 0..5, 0..10 and 0..100 are known"
BAD = {
    "": "is empty; it needs the columns path,mos",
    "\n \n,,\n": "is empty; it needs the columns path,mos",
    "path,mos\n": "has a header and no rows",
    "path,mos\n,\n": "has a header and no rows",
    "a.png,20\nb.png,30\n": "no column path; it has a.png, 20",
    "path,score\na.png,20\n": "no column mos; it has path, score",
    "mos\n20\n": "no column path; it has mos",
    "path,mos\na.png,20\nb.png,good\n": "line 3: mos is 'good', which is no number",
    "path,mos\na.png,\n": "line 2: mos is '', which is no number",
    "path,mos\na.png\n": "line 2: mos is '', which is no number",
    "path,mos\na.png,NaN\n": "line 2: mos is 'NaN', which is no number",
    "path,mos\na.png,-inf\n": "line 2: mos is '-inf', which is no number",
    'path,mos\na.png,"3,5"\n': "line 2: mos is '3,5', which is no number",
    "path,dmos\na.png,x\n": "line 2: dmos is 'x', which is no number",
    "path,mos 0..10\na.png,3\nb.png,10.5\n": "line 3: mos is 10.5, outside 0 to 10",
    "path,mos 5..1\na.png,3\n": "mos 5..1 is no scale; the lower end comes first, as in mos 0..10",
    "path,mos 0-10\na.png,3\n": "no column mos; it has path, mos 0-10",
    "path,mos\n\na.png,20\n,30\n": "line 4: a score without a picture",
    "path,mos,std\na.png,20,±3\n": "line 2: std is '±3', which is no number",
    "path,mos,raters\na.png,20,some\n": "line 2: raters is 'some', which is no number",
    "path,mos\na.png,150\nb.png,150\n": f"every mos is 150, on no known scale; {SCALES_KNOWN}",
    "path,mos,split\na.png,20,all\n": "a part must not be called all; that name has a meaning for every data set",
    "path,mos,split\na.png,20,test-1\n": "a part must not be called test-1; that name has a meaning for every data set",
    'path,mos\n"' + "a" * 200_000: "line 2: field larger than field limit (131072); is a quotation mark left open?",
}


@pytest.mark.parametrize(("text", "message"), BAD.items(), ids=range(len(BAD)))
def test_a_bad_file_is_told_by_line_and_column(text: str, message: str, folder: Path) -> None:
    file = folder / "list.csv"
    file.write_text(text, encoding="utf-8")
    assert error(file, folder).removeprefix(str(file)).lstrip(":, ") == message


def test_the_known_scales_are_those_of_the_message() -> None:
    known = [f"{low:g}..{high:g}" for low, high in SCALES]
    assert f"{', '.join(known[:-1])} and {known[-1]} are known" == SCALES_KNOWN


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "none.csv"
    assert error(file, tmp_path) == f"{file}: can't be read (No such file or directory)"


def test_a_seeded_part_of_one_picture_is_empty(folder: Path) -> None:
    assert len(read(folder, "path,mos\na.png,20\n", "test-0")) == 1
    assert error(folder / "list.csv", folder, "train-0") == f"{folder / 'list.csv'}: the part train-0 has no pictures"


# --- cards ---------------------------------------------------------------------------------------------------------

CARD = """\
title = "Made"
summary = "two pictures"
paper = "none"
page = "https://example.org/made"
licence = "CC0"
pictures = 4
images = "Images"
scale = { low = 1.0, high = 5.0 }
[[tables]]
file = "train.csv"
part = "train"
picture = "name"
score = "mos"
deviation = "sd"
[[tables]]
file = "test.csv"
part = "test"
picture = "name"
score = "mos"
[lists.few]
of = "test"
without = "made-without.json"
why = "without the second"
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of cards with ``made`` in it; its set lies in ``set``."""
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards/made.toml").write_text(CARD)
    (tmp_path / "cards/made-without.json").write_text('{"indices": [1]}')
    draw(*(tmp_path / "set/Images" / name for name in NAMES))
    (tmp_path / "set/train.csv").write_text("name,mos,sd\na.png,1,2\nb.png,2,\n")
    (tmp_path / "set/test.csv").write_text("name,mos\nc.png,3\nd.png,5\n")
    monkeypatch.setattr(cards, "FOLDER", tmp_path / "cards")
    find_dataset.cache_clear()
    yield tmp_path / "set"
    find_dataset.cache_clear()


def test_parts_by_file_and_lists(made: Path) -> None:
    assert find_dataset("made").official == ("train", "test", "few")
    letters = {"all": "abcd", "train": "ab", "test": "cd", "few": "c"}
    for name, wanted in letters.items():
        found = read_split("made", name, made)
        assert (found.split, "".join(path.stem for path in found.paths)) == (name, wanted)
    found = read_split("made", "train", made)
    assert found.mos.tolist() == [0.0, 0.25]
    np.testing.assert_array_equal(found.deviations, [0.5, np.nan])
    assert read_split("made", "test", made).deviations is None


def test_groups_beside_the_card_stay_together(made: Path) -> None:
    (cards.FOLDER / "made.toml").write_text(CARD.replace("pictures = 4", 'pictures = 4\ngroups = "made-groups.csv"'))
    (cards.FOLDER / "made-groups.csv").write_text("path,group\nA.png,0\nd.png,0\n")
    sides = ["".join(path.stem for path in read_split("made", f"test-{seed}", made).paths) for seed in range(SEEDS)]
    assert set(sides) == {"ad", "b", "c"}
    assert read_split("made", "test", made).paths == (made / "Images/c.png", made / "Images/d.png")


def test_a_part_needs_its_own_files_only(made: Path) -> None:
    (made / "train.csv").unlink()
    assert len(read_split("made", "test", made)) == 2
    text = f"made: {made / 'train.csv'} is missing; bring the data set: https://example.org/made"
    assert [error("made", made, split) for split in ("train", "all", "test-0")] == [text] * 3


def test_a_split_nobody_has(made: Path) -> None:
    assert error("made", made, "val") == f"made: no split val; known: all, train, test, few, {KNOWN}"


def test_no_such_card(made: Path) -> None:
    for name in ("other", "", "../made", "made.toml", "MADE"):
        assert error(name, made) == f"{name}: no such data set; known: made; or a CSV file with columns path,mos"


PAIRS = 'pairs = [{ file = "refs.txt", columns = ["r", "p"], picture = "p", reference = "r" }]'
EDITION = "is it the file that the card names? Other editions of a set have other scales"
BAD_TABLES = {
    "": "{file}: no column 'name'; it has nothing",
    "name,MOS\nc.png,3\n": "{file}: no column 'mos'; it has name, MOS",
    "name,mos\n": "made: the part test has no pictures; bring the set anew from https://example.org/made",
    "name,mos\nc.png,NaN\n": "{file}, line 2: mos is 'NaN', which is no number",
    "name,mos\nc.png\n": "{file}, line 2: mos is '', which is no number",
    "name,mos\nc.png,3\n,4\n": "{file}, line 3: a score without a picture",
    "name,mos\nc.png,3\nd.png,5.5\n": f"made: d.png has the score 5.5, outside 1 to 5; {EDITION}",
    "name,mos\nc.png,0\n": f"made: c.png has the score 0, outside 1 to 5; {EDITION}",
    "name,mos\nc.png,3\nx.png,3\n": "made: 1 of 2 pictures are missing, first {root}/Images/x.png; bring the data set "
    "from https://example.org/made; dgiqa datasets check made {root} tells what is there",
}


@pytest.mark.parametrize(("text", "message"), BAD_TABLES.items(), ids=range(len(BAD_TABLES)))
def test_a_bad_table_is_told(text: str, message: str, made: Path) -> None:
    (made / "test.csv").write_text(text)
    assert error("made", made, "test") == message.format(file=made / "test.csv", root=made)


def test_a_scale_where_lower_is_better_is_turned(made: Path) -> None:
    (cards.FOLDER / "made.toml").write_text(
        CARD.replace("high = 5.0", 'high = 5.0, better = "lower", deviations = 8.0')
    )
    found = read_split("made", "train", made)
    assert found.mos.tolist() == [1.0, 0.75]
    np.testing.assert_array_equal(found.deviations, [0.25, np.nan])


def test_a_table_saved_with_semicolons_by_a_spreadsheet(made: Path) -> None:
    (made / "test.csv").write_bytes(codecs.BOM_UTF8 + b"name;mos\r\nc.png;3,5\r\nd.png;5\r\n")
    assert read_split("made", "test", made).mos.tolist() == [0.625, 1.0]


BAD_CARDS = {
    ("pictures = 4", "pictures = four"): "made.toml: not valid TOML (Invalid value (at line 6, column 12))",
    ("pictures = 4\n", ""): "made.toml: pictures: missing",
    ("high = 5.0", "high = 1.0"): "made.toml: scale: low = 1 must be less than high = 1",
    ("high = 5.0", "high = 5.0, raters = -1"): "made.toml: scale: raters and deviations must not be negative",
    ("high = 5.0", 'high = 5.0, better = "more"'): "made.toml: scale: better: 'more' is not one of 'higher', 'lower'",
    ('of = "test"', 'of = "val"'): "made.toml: lists: 'val' is no official part",
    ("lists.few", "lists.all"): "made.toml: a part must not be called all",
    ("lists.few", "lists.test-3"): "made.toml: a part must not be called test-3",
    ('deviation = "sd"', "skip = -1"): "made.toml: tables[0]: skip must not be negative",
    (
        'deviation = "sd"',
        "header = false",
    ): "made.toml: tables[0]: columns names those of a file without a header, and only those",
    ('deviation = "sd"', 'header = false\ncolumns = ["name"]'): "made.toml: tables[0]: 'mos' is none of columns",
    (
        'deviation = "sd"',
        'set = "set"',
    ): "made.toml: parts and a table's column set go together: one of them is missing",
    ("pictures = 4", "pictures = 4\nsubset = '^a'"): "made.toml: '^a' has no group",
    ("pictures = 4", 'pictures = 4\nchecked = "yes"'): (
        "made.toml: checked: 'yes' is not one of 'all', 'scores', 'nothing'"
    ),
    ("pictures = 4\n", f"pictures = 4\n{PAIRS}\n".replace('picture = "p"', 'picture = "q"')): (
        "made.toml: pairs[0]: 'q' is none of columns"
    ),
    ("pictures = 4", "pictures = 4\nsubset = '('"): "made.toml: '(': missing ), unterminated subpattern at position 0",
}


@pytest.mark.parametrize(("change", "message"), BAD_CARDS.items(), ids=range(len(BAD_CARDS)))
def test_a_bad_card_is_told(change: tuple[str, str], message: str, made: Path) -> None:
    (cards.FOLDER / "made.toml").write_text(CARD.replace(*change, 1))
    with pytest.raises(CardError) as caught:
        find_dataset("made")
    assert str(caught.value) == message


def test_a_card_without_tables(made: Path) -> None:
    (cards.FOLDER / "made.toml").write_text(CARD[: CARD.index("[[tables]]")] + "tables = []\n")
    with pytest.raises(CardError, match=r"^made\.toml: tables: at least one file of scores is needed$"):
        find_dataset("made")


def test_a_check_without_a_folder(made: Path) -> None:
    found = check(find_dataset("made"), made / "gone")
    assert [(finding.whole, finding.text) for finding in found] == [
        (False, f"{made / 'gone'}: there is no such folder")
    ]


def test_a_check_with_nothing_there(made: Path, tmp_path: Path) -> None:
    found = check(find_dataset("made"), tmp_path / "cards")
    where = tmp_path / "cards"
    assert [(finding.whole, finding.text) for finding in found] == [
        (False, f"made: {where / 'train.csv'} is missing"),
        (False, f"made: {where / 'test.csv'} is missing"),
        (False, f"{where / 'Images'}: is missing"),
    ]


# --- dgiqa datasets ------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["datasets", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys)
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in lines[1:-2]] == [card.name for card in list_datasets()]
    koniq = next(line for line in lines if line.startswith("koniq10k"))
    assert re.split(" {2,}", koniq)[1:5] == ["10,073", "0..100, higher better", "train, val, test", "scores"]
    assert lines[-2:] == [
        "dgiqa datasets NAME shows a card; train-0 to train-9 with test-0 to test-9 are ten seeded 80/20 splits of "
        "each",
        "checked: how much of a card was held against the set's own files",
    ]


def test_one_card(capsys: pytest.CaptureFixture[str], made: Path) -> None:
    (cards.FOLDER / "made.toml").write_text(CARD.replace("lists.few", "lists.test-without-it"))
    assert run(capsys, "made") == (
        0,
        "made: Made\ntwo pictures\n\n"
        "paper            none\n"
        "page             https://example.org/made\n"
        "licence          CC0\n"
        "to do            unpack the set\n"
        "scale            1..5, higher better\n"
        "pictures in      Images\n"
        "list             train.csv (part train, picture name, score mos, deviation sd)\n"
        "list             test.csv (part test, picture name, score mos)\n"
        "parts            all; official: train, test, test-without-it; train-0 to train-9 with test-0 to test-9: "
        "seeded 80/20, by picture\n"
        "test-without-it  of test, without the second\n"
        "checked          nothing\n",
        "",
    )


def test_a_card_that_says_how_it_was_checked_and_what_names_its_references(
    capsys: pytest.CaptureFixture[str], made: Path
) -> None:
    (cards.FOLDER / "made.toml").write_text(
        CARD.replace("[[tables]]", 'checked = "scores"\nhow = "by hand"\n' + PAIRS + "\n[[tables]]", 1)
    )
    lines = run(capsys, "made")[1].splitlines()
    assert "references   named by refs.txt" in lines
    assert lines[-1] == "checked      scores: by hand"


def test_the_list_in_columns(capsys: pytest.CaptureFixture[str], made: Path) -> None:
    (cards.FOLDER / "a-longer-name.toml").write_text(
        CARD.replace("pictures = 4", 'pictures = 1234\nchecked = "scores"').replace("high = 5.0", "high = 1899.5")
    )
    assert run(capsys)[1].splitlines()[:3] == [
        "name           pictures  scale                     official parts    checked  licence",
        "a-longer-name     1,234  1..1899.5, higher better  train, test, few  scores   CC0",
        "made                  4  1..5, higher better       train, test, few  nothing  CC0",
    ]


def test_every_card_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for card in list_datasets():
        code, out, _ = run(capsys, card.name)
        assert code == 0
        assert out.startswith(f"{card.name}: {card.title}\n{card.summary}\n")
        assert all(table.file in out for table in card.tables)


def test_cards_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [card["name"] for card in found] == [card.name for card in list_datasets()]
    code, out, _ = run(capsys, "biq2021", "--json")
    card = json.loads(out)
    assert (code, card["pictures"], card["scale"]["high"]) == (0, 12000, 1.0)
    assert card["splits"][:4] == ["all", "train", "test", "test-disjoint"]
    assert set(card) == set(DataSetCard.__dataclass_fields__) | {"splits"}


def test_a_whole_set(capsys: pytest.CaptureFixture[str], made: Path) -> None:
    assert run(capsys, "check", "made", str(made)) == (
        0,
        f"ok       {made / 'train.csv'}: 2 rated pictures\n"
        f"ok       {made / 'test.csv'}: 2 rated pictures\n"
        f"ok       {made / 'Images'}: all 4 pictures are there\n"
        f"Made is whole: dgiqa evaluate --on made --root {made}\n",
        "",
    )


def test_a_whole_set_without_a_test_part_in_a_folder_with_a_blank(
    capsys: pytest.CaptureFixture[str], made: Path, tmp_path: Path
) -> None:
    text = (
        CARD.replace('of = "test"', 'of = "few"')
        .replace('part = "test"', 'part = "few"')
        .replace("lists.few", "lists.less")
    )
    (cards.FOLDER / "made.toml").write_text(text)
    made.rename(tmp_path / "my set")
    code, out, _ = run(capsys, "check", "made", str(tmp_path / "my set"))
    assert code == 0
    assert out.splitlines()[-1] == (
        f"Made is whole: dgiqa evaluate --on made --split test-0 --root '{tmp_path / 'my set'}'"
    )


def test_what_is_missing(capsys: pytest.CaptureFixture[str], made: Path) -> None:
    (made / "test.csv").unlink()
    (made / "Images/b.png").unlink()
    assert run(capsys, "check", "made", str(made)) == (
        1,
        f"ok       {made / 'train.csv'}: 2 rated pictures\n"
        f"MISSING  made: {made / 'test.csv'} is missing\n"
        f"MISSING  {made / 'Images'}: 1 of 2 pictures are missing, first {made / 'Images/b.png'}\n"
        "Made: bring what is missing: https://example.org/made\n",
        "",
    )


def test_a_file_that_is_cut_off(capsys: pytest.CaptureFixture[str], made: Path) -> None:
    (made / "test.csv").write_text("name,mos\nc.png,3\n")
    code, out, _ = run(capsys, "check", "made", str(made))
    assert code == 1
    assert "MISSING  3 rated pictures where the set has 4\n" in out


def test_a_check_as_json(capsys: pytest.CaptureFixture[str], made: Path) -> None:
    code, out, _ = run(capsys, "check", "made", str(made), "--json")
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [
        {"whole": True, "text": f"{made / 'train.csv'}: 2 rated pictures"},
        {"whole": True, "text": f"{made / 'test.csv'}: 2 rated pictures"},
        {"whole": True, "text": f"{made / 'Images'}: all 4 pictures are there"},
    ]
    (made / "Images/b.png").unlink()
    assert run(capsys, "check", "made", str(made), "--json")[0] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("check",), "check takes a name and a folder; dgiqa datasets check NAME DIR"),
        (("check", "made"), "check takes a name and a folder; dgiqa datasets check NAME DIR"),
        (("check", "made", "a", "b"), "check takes a name and a folder; dgiqa datasets check NAME DIR"),
        (("check", "other", "a"), "other: no such data set; known: made; or a CSV file with columns path,mos"),
        (("other",), "other: no such data set; known: made; or a CSV file with columns path,mos"),
        (("made", "other"), "made other: one name at a time; dgiqa datasets check NAME DIR checks a set"),
    ],
)
def test_misuse(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str], made: Path) -> None:
    assert run(capsys, *words) == (2, "", f"dgiqa: {message}\n")
