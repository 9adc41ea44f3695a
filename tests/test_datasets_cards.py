"""Every data-set card against a small tree laid out as the real set is, and the cards against the page about them."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import scipy.io

from dgiqa.datasets import DataSetCard, check, find_dataset, list_datasets, read_split
from dgiqa.datasets.card import FOLDER, left_out
from dgiqa.datasets.split import seeded_names
from dgiqa.datasets.table import is_known
from dgiqa.errors import UsageError

PAGE = Path(__file__).parents[1] / "docs/datasets.md"
FORMATS = {".jpg": "JPEG", ".png": "PNG", ".bmp": "BMP"}


@dataclass(frozen=True)
class Rated:
    """What a row of a set must come to; files under the root."""

    file: str
    mos: float
    reference: str | None = None
    distortion: str = ""
    subset: str = ""
    deviation: float | None = None


@dataclass(frozen=True)
class Case:
    """A set in small: its files of scores, what the rows must come to, and which of them each official part has."""

    tables: Mapping[str, str]
    rows: tuple[Rated, ...]
    parts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    raters: int = 0


CASES = {
    "agiqa3k": Case(
        {
            "data.csv": "name,prompt,adj1,adj2,style,mos_quality,std_quality,mos_align,std_align\n"
            'AttnGAN_normal_000.jpg,"statue of a man, on a horse",,,,0.5,0.25,1.8,0.4\n'
            'sd1.5_highcorr_012.jpg,"a cat","extreme, detail",,anime,3.5,1.0,4.4,0.3\n'
        },
        (
            Rated("AttnGAN_normal_000.jpg", 0.1, subset="AttnGAN", deviation=0.05),
            Rated("sd1.5_highcorr_012.jpg", 0.7, subset="sd1.5", deviation=0.2),
        ),
        raters=21,
    ),
    "bid": Case(
        {
            "bid_train_clip.txt": "ImageDatabase/DatabaseImage0456.JPG\t3.180518\trealistic blur\tcityscape\tnight\tx\n"
            "ImageDatabase/DatabaseImage0124.JPG\t4.787501\tother realistic\tplant\tinvalid\tinvalid\n",
            "bid_val_clip.txt": "ImageDatabase/DatabaseImage0269.JPG\t2.662673\trealistic blur\thuman\tindoor\tx\n",
            "bid_test_clip.txt": "ImageDatabase/DatabaseImage0190.JPG\t2.650643\tunderexposure\tanimal\tinvalid\tx\n",
        },
        (
            Rated("ImageDatabase/DatabaseImage0456.JPG", 3.180518 / 5, distortion="realistic blur"),
            Rated("ImageDatabase/DatabaseImage0124.JPG", 4.787501 / 5, distortion="other realistic"),
            Rated("ImageDatabase/DatabaseImage0269.JPG", 2.662673 / 5, distortion="realistic blur"),
            Rated("ImageDatabase/DatabaseImage0190.JPG", 2.650643 / 5, distortion="underexposure"),
        ),
        {"train": (0, 1), "val": (2,), "test": (3,)},
    ),
    "biq2021": Case(
        {
            "Train (Images and MOS).csv": "Image Name,MOS,,\nss03 (3753).jpg,0.8471,,\nss01 (1726).jpg,0.2874,,\n",
            "Test (Images and MOS).csv": "Image Name,MOS\nss03 (7805).jpg,0.7321\nss02 (954).jpg,0\n",
        },
        (
            Rated("Images/ss03 (3753).jpg", 0.8471, subset="ss03"),
            Rated("Images/ss01 (1726).jpg", 0.2874, subset="ss01"),
            Rated("Images/ss03 (7805).jpg", 0.7321, subset="ss03"),
            Rated("Images/ss02 (954).jpg", 0.0, subset="ss02"),
        ),
        {"train": (0, 1), "test": (2, 3)},
        raters=30,
    ),
    "csiq": Case(
        {
            "csiq_train_clip.txt": "dst_imgs/awgn/shroom.AWGN.1.png\t0.969\twhite noise\tplant\tinvalid\tinvalid\n"
            "dst_imgs/jpeg2000/shroom.jpeg2000.5.png\t0.0\tjpeg2000 compression\tplant\tinvalid\tinvalid\n",
            "csiq_val_clip.txt": "dst_imgs/fnoise/aerial_city.fnoise.2.png\t0.75\tfnoise\tcityscape\tinvalid\tx\n",
            "csiq_test_clip.txt": "dst_imgs/blur/1600.BLUR.3.png\t1.0\tgaussian blur\tanimal\tnight\tinvalid\n",
        },
        (
            Rated("dst_imgs/awgn/shroom.AWGN.1.png", 0.969, "src_imgs/shroom.png", "white noise"),
            Rated("dst_imgs/jpeg2000/shroom.jpeg2000.5.png", 0.0, "src_imgs/shroom.png", "jpeg2000 compression"),
            Rated("dst_imgs/fnoise/aerial_city.fnoise.2.png", 0.75, "src_imgs/aerial_city.png", "fnoise"),
            Rated("dst_imgs/blur/1600.BLUR.3.png", 1.0, "src_imgs/1600.png", "gaussian blur"),
        ),
        {"train": (0, 1), "val": (2,), "test": (3,)},
    ),
    "flive": Case(
        {"labels_image.csv": "name,mos\nvoc_emotic_ava/JPEGImages__2007_000121.jpg,75.5\nEE371R/cj23478+019.jpg,9.1\n"},
        (
            Rated("database/voc_emotic_ava/JPEGImages__2007_000121.jpg", 0.755),
            Rated("database/EE371R/cj23478+019.jpg", 0.091),
        ),
    ),
    "kadid10k": Case(
        {
            "dmos.csv": "dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,4.57,0.496\nI01_25_05.png,I01.png,1.00,0.1\n"
            "I81_10_03.png,I81.png,5.00,0.2\n"
        },
        (
            Rated("images/I01_01_01.png", 3.57 / 4, "images/I01.png", "gaussian blur"),
            Rated("images/I01_25_05.png", 0.0, "images/I01.png", "contrast change"),
            Rated("images/I81_10_03.png", 1.0, "images/I81.png", "jpeg"),
        ),
        raters=30,
    ),
    "koniq10k": Case(
        {
            "koniq10k_distributions_sets.csv": '"image_name","c1","c2","c3","c4","c5","c_total","MOS","SD","set"\n'
            '"9096574214.jpg",0,5,60,40,0,105,58.5,0.6,"training"\n'
            '"10953973716.jpg",1,2,40,60,2,105,67.25,0.8,"validation"\n'
            '"1814122396.jpg",0,9,60,35,1,105,56.75,1.0,"test"\n'
            '"8244017611.jpg",9,60,30,5,1,105,3.9,0.5,"training"\n'
        },
        (
            Rated("1024x768/9096574214.jpg", 0.585, deviation=0.15),
            Rated("1024x768/10953973716.jpg", 0.6725, deviation=0.2),
            Rated("1024x768/1814122396.jpg", 0.5675, deviation=0.25),
            Rated("1024x768/8244017611.jpg", 0.039, deviation=0.125),
        ),
        {"train": (0, 3), "val": (1,), "test": (2,)},
        raters=105,
    ),
    "live": Case(
        {
            "live_train_clip.txt": "jp2k/img1.bmp\t69\tjpeg2000 compression\thuman\tstill_life\tinvalid\n"
            "jpeg/img1.bmp\t115\tjpeg compression\thuman\tstill_life\tinvalid\n",
            "live_val_clip.txt": "wn/img1.bmp\t92\twhite noise\tlandscape\tplant\tinvalid\n"
            "gblur/img1.bmp\t57.5\tgaussian blur\tlandscape\tplant\tinvalid\n",
            "live_test_clip.txt": "fastfading/img1.bmp\t114.414709\twhite noise\tlandscape\tstill_life\tinvalid\n",
            "jp2k/info.txt": "churchandcapitol.bmp img2.bmp 0.00000\r\nstudentsculpture.bmp img1.bmp 0.75\r\n",
            "jpeg/info.txt": "studentsculpture.bmp img1.bmp 0.25 \n",
            "wn/info.txt": "churchandcapitol.bmp img1.bmp 0.031250\n",
            "gblur/info.txt": "churchandcapitol.bmp img1.bmp 1.5\n\n",
            "fastfading/info.txt": "ocean.bmp img1.bmp 18.9\n",
        },
        (
            Rated("jp2k/img1.bmp", 0.6, "refimgs/studentsculpture.bmp", "jpeg2000 compression"),
            Rated("jpeg/img1.bmp", 1.0, "refimgs/studentsculpture.bmp", "jpeg compression"),
            Rated("wn/img1.bmp", 0.8, "refimgs/churchandcapitol.bmp", "white noise"),
            Rated("gblur/img1.bmp", 0.5, "refimgs/churchandcapitol.bmp", "gaussian blur"),
            Rated("fastfading/img1.bmp", 114.414709 / 115, "refimgs/ocean.bmp", "fast fading"),
        ),
        {"train": (0, 1), "val": (2, 3), "test": (4,)},
    ),
    "livec": Case(
        {
            "livec.csv": "name,mos,std\n"
            + "".join(f"t{i}.bmp,50,20\n" for i in range(1, 8))
            + "3.bmp,32.5,19\n611.JPG,92.43,\n"
        },
        (Rated("Images/3.bmp", 0.325, deviation=0.19), Rated("Images/611.JPG", 0.9243, deviation=float("nan"))),
        raters=175,
    ),
    "pipal": Case(
        {
            "Train_Label/A0001.txt": "A0001_00_00.bmp,1350\nA0001_06_23.bmp,800\n",
            "Train_Label/A0185.txt": "A0185_05_15.bmp,1900.0\n",
            "Train_Label/._A0001.txt": "what an unpacker leaves behind",
        },
        (
            Rated("Distortion_1/A0001_00_00.bmp", 0.5, "Train_Ref/A0001.bmp", "00"),
            Rated("Distortion_1/A0001_06_23.bmp", 0.0, "Train_Ref/A0001.bmp", "06"),
            Rated("Distortion_4/A0185_05_15.bmp", 1.0, "Train_Ref/A0185.bmp", "05"),
        ),
    ),
    "saud": Case(
        {"saud.csv": "name,mos,scene\n001_GC.png,12.5,001\n001_UWCNN.png,100,001\n002_GC.png,0,002\n"},
        (
            Rated("001_GC.png", 0.125, "001"),
            Rated("001_UWCNN.png", 1.0, "001"),
            Rated("002_GC.png", 0.0, "002"),
        ),
    ),
    "spaq": Case(
        {
            "Annotations/MOS and Image attribute scores.csv": "Image name,MOS,Brightness,Colorfulness,Contrast,"
            "Noisiness,Sharpness\n00001.jpg,35.23,37.7,44.7,40.1,37.2,31.6\n11125.jpg,80,70,70,70,70,70\n"
        },
        (Rated("TestImage/00001.jpg", 0.3523), Rated("TestImage/11125.jpg", 0.8)),
        raters=15,
    ),
    "tid2013": Case(
        {"mos_with_names.txt": "5.51429 I01_01_1.bmp\r\n2.25 i01_24_5.bmp\r\n9 i25_10_3.bmp\r\n"},
        (
            Rated("distorted_images/I01_01_1.BMP", 5.51429 / 9, "reference_images/I01.BMP", "01"),
            Rated("distorted_images/i01_24_5.bmp", 0.25, "reference_images/I01.BMP", "24"),
            Rated("distorted_images/i25_10_3.bmp", 1.0, "reference_images/i25.bmp", "10"),
        ),
    ),
    "uhdiqa": Case(
        {
            "uhd-iqa-metadata.csv": "image_name,quality_mos,set\n100.jpg,0.5,training\n7.jpg,0.625,validation\n"
            "9.jpg,1,test\n"
        },
        (Rated("100.jpg", 0.5), Rated("7.jpg", 0.625), Rated("9.jpg", 1.0)),
        {"train": (0,), "val": (1,), "test": (2,)},
        raters=10,
    ),
    "uid2021": Case(
        {"uid2021.csv": "name;mos;scene\n1_raw.png;41,5;scene 1\n1_CLAHE.png;62;scene 1\n60_raw.png;100;scene 60\n"},
        (
            Rated("1_raw.png", 0.415, "scene 1"),
            Rated("1_CLAHE.png", 0.62, "scene 1"),
            Rated("60_raw.png", 1.0, "scene 60"),
        ),
        raters=52,
    ),
}
CODES = ("saud", "uid2021")  # their references are scenes without a picture


def build(name: str, root: Path) -> Case:
    """The small set ``name`` under ``root``."""
    case = CASES[name]
    for file, text in case.tables.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(text.encode())
    references = {row.reference for row in case.rows if row.reference and name not in CODES}
    for file in {row.file for row in case.rows} | references:
        draw(root / file)
    return case


def draw(file: Path) -> None:
    stream = io.BytesIO()
    PIL.Image.new("RGB", (4, 3), (200, 90, 20)).save(stream, FORMATS[file.suffix.lower()])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(stream.getvalue())


def test_every_card_has_a_small_tree() -> None:
    assert [card.name for card in list_datasets()] == sorted(CASES)


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_set_in_its_real_layout(name: str, tmp_path: Path) -> None:
    case = build(name, tmp_path)
    found = read_split(name, "all", tmp_path)
    rows = case.rows
    assert (found.dataset, found.split, len(found), found.raters) == (name, "all", len(rows), case.raters)
    assert found.paths == tuple(tmp_path / row.file for row in rows)
    assert found.mos.dtype == np.float32
    np.testing.assert_allclose(found.mos, [row.mos for row in rows], rtol=0, atol=1e-6)
    assert found.subsets == tuple(row.subset for row in rows)
    assert found.distortions == tuple(row.distortion for row in rows)
    references = tuple(tmp_path / row.reference for row in rows if row.reference)
    assert found.references == references
    assert find_dataset(name).has_references == bool(references)
    if rows[0].deviation is None:
        assert found.deviations is None
    else:
        assert found.deviations is not None
        np.testing.assert_allclose(found.deviations, [row.deviation for row in rows], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_official_parts(name: str, tmp_path: Path) -> None:
    case = build(name, tmp_path)
    card = find_dataset(name)
    assert [part for part in card.official if part not in card.lists] == list(case.parts)
    assert card.splits == ("all", *card.official, *seeded_names())
    for part, chosen in case.parts.items():
        found = read_split(name, part, tmp_path)
        assert found.split == part
        assert found.paths == tuple(tmp_path / case.rows[i].file for i in chosen)
        np.testing.assert_allclose(found.mos, [case.rows[i].mos for i in chosen], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(CASES))
def test_seeded_parts_make_up_the_set(name: str, tmp_path: Path) -> None:
    build(name, tmp_path)
    whole = read_split(name, "all", tmp_path)
    train, test = (read_split(name, f"{side}-4", tmp_path) for side in ("train", "test"))
    assert (train.split, test.split) == ("train-4", "test-4")
    assert {*train.paths, *test.paths} == {*whole.paths}
    assert len(train) + len(test) == len(whole)
    assert not {*train.references} & {*test.references}


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_check_finds_all_but_the_number_of_pictures(name: str, tmp_path: Path) -> None:
    case = build(name, tmp_path)
    card = find_dataset(name)
    found = check(card, tmp_path)
    where = tmp_path / card.images
    for table, finding in zip(card.tables, found, strict=False):
        assert finding.whole != bool(table.sha256)  # where sums are known, these are not the files
        if table.sha256:
            assert re.fullmatch(
                rf"{re.escape(str(tmp_path / table.file))}: \d rated pictures, but not the file that the card knows "
                r"\(sha256 [0-9a-f]{12}…\)",
                finding.text,
            )
    card = dataclasses.replace(card, tables=tuple(dataclasses.replace(table, sha256="") for table in card.tables))
    found = check(card, tmp_path)
    assert [finding.text for finding in found if not finding.whole] == [
        f"{len(case.rows)} rated pictures where the set has {card.pictures:,}"
    ]
    assert found[-2].text == f"{where}: all {len(case.rows)} pictures are there"
    whole = dataclasses.replace(card, pictures=len(case.rows))
    assert all(finding.whole for finding in check(whole, tmp_path))


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_missing_file_of_scores_says_what_to_bring(name: str, tmp_path: Path) -> None:
    card = find_dataset(name)
    with pytest.raises(UsageError) as caught:
        read_split(name, "all", tmp_path)
    file = tmp_path / card.tables[0].file
    assert str(caught.value) == f"{name}: {file} is missing; {card.bring or 'bring the data set'}: {card.page}"


def test_near_duplicates_are_left_out_of_the_very_file_only(tmp_path: Path) -> None:
    build("biq2021", tmp_path)
    with pytest.raises(UsageError) as caught:
        read_split("biq2021", "test-disjoint", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'Test (Images and MOS).csv'}: is not the file that the card knows, so that the pictures to leave "
        "out can't be told; bring it anew from https://github.com/nisarahmedrana/BIQ2021"
    )


def test_a_checkout_with_other_line_ends_is_the_same_file(tmp_path: Path) -> None:
    content = b"a.png\t1\nb.png\t2\n"
    table = dataclasses.replace(find_dataset("live").tables[0], sha256=hashlib.sha256(content).hexdigest())
    for there, known in ((content, True), (content.replace(b"\n", b"\r\n"), True), (content[:-1], False)):
        (tmp_path / table.file).write_bytes(there)
        assert is_known(table, tmp_path) is known


def test_live_without_its_info_files_has_official_parts_only(tmp_path: Path) -> None:
    """Seeded parts by picture would show every original to both sides."""
    build("live", tmp_path)
    (tmp_path / "wn/info.txt").unlink()
    (tmp_path / "gblur/info.txt").write_text("churchandcapitol.bmp img7.bmp 1.5\n")
    found = read_split("live", "all", tmp_path)
    assert found.references[:2] == (tmp_path / "refimgs/studentsculpture.bmp",) * 2
    assert found.references[2:4] == (None, None)
    with pytest.raises(UsageError) as caught:
        read_split("live", "train-0", tmp_path)
    assert str(caught.value) == (
        "live: the references of 2 of 5 pictures are not known, first wn/img1.bmp, so that seeded parts can't keep "
        f"them together; bring {tmp_path / '*/info.txt'}, which name them"
    )
    texts = [finding.text for finding in check(find_dataset("live"), tmp_path) if not finding.whole]
    assert f"{tmp_path / '*/info.txt'}: name the references of 3 of 5 pictures; seeded parts need all of them" in texts


def test_a_line_of_pairs_without_a_picture_is_told(tmp_path: Path) -> None:
    build("live", tmp_path)
    (tmp_path / "wn/info.txt").write_text("ocean.bmp img3.bmp 1\nocean.bmp\n")
    text = f"{tmp_path / 'wn/info.txt'}, line 2: no column 'picture'"
    with pytest.raises(UsageError) as caught:
        read_split("live", "all", tmp_path)
    assert str(caught.value) == text
    assert text in [finding.text for finding in check(find_dataset("live"), tmp_path)]


def test_a_folder_of_live_that_is_missing_is_not_taken_from_another(tmp_path: Path) -> None:
    build("live", tmp_path)
    (tmp_path / "jpeg/img1.bmp").unlink()
    with pytest.raises(UsageError) as caught:
        read_split("live", "train", tmp_path)
    assert str(caught.value) == (
        f"live: 1 of 2 pictures are missing, first {tmp_path / 'jpeg/img1.bmp'}; bring the data set from "
        f"https://live.ece.utexas.edu/research/quality/subjective.htm; dgiqa datasets check live {tmp_path} tells "
        "what is there"
    )


def test_references_that_are_not_there_still_hold_pictures_together(tmp_path: Path) -> None:
    """TID2013 spells them I01 and i01."""
    build("tid2013", tmp_path)
    with_files = [read_split("tid2013", f"test-{seed}", tmp_path).paths for seed in range(10)]
    for file in (tmp_path / "reference_images").iterdir():
        file.unlink()
    found = read_split("tid2013", "all", tmp_path)
    assert found.references[0] == found.references[1] != found.references[2]
    assert [read_split("tid2013", f"test-{seed}", tmp_path).paths for seed in range(10)] == with_files


def test_the_page_lists_exactly_the_cards() -> None:
    rows = re.findall(r"^\| (`[a-z0-9]+` \| [0-9].*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [row.split(" | ") for row in rows] == [
        [
            f"`{card.name}`",
            f"{card.pictures:,}",
            f"{card.scale.low:g}..{card.scale.high:g}" + (", lower is better" if card.scale.better == "lower" else ""),
            ", ".join(f"`{part}`" for part in card.official) or "none",
            card.bring or "unpack the set",
            card.checked,
            card.how,
            card.licence,
        ]
        for card in list_datasets()
    ]


def test_the_lines_of_the_page_write_livec_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On .mat files of the release's shapes: names (n, 1) of cells, numbers (1, n)."""
    build("livec", tmp_path)
    names = [*(f"t{i}.bmp" for i in range(1, 8)), "3.bmp", "611.JPG"]
    cells = np.empty((len(names), 1), object)
    cells[:, 0] = [np.array([name]) for name in names]
    columns = {
        "Images": cells,
        "MOS": np.array([[50.0] * 7 + [32.5, 92.43]]),
        "StdDev": np.array([[20.0] * 8 + [15.0]]),
    }
    (tmp_path / "Data").mkdir()
    for key, column in columns.items():
        scipy.io.savemat(tmp_path / f"Data/All{key}_release.mat", {f"All{key}_release": column})
    (tmp_path / "livec.csv").unlink()
    monkeypatch.chdir(tmp_path)
    found = re.search(r"```python\n(import csv\n.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    exec(found[1], {})
    split = read_split("livec", "all", tmp_path)
    assert split.paths == (tmp_path / "Images/3.bmp", tmp_path / "Images/611.JPG")
    np.testing.assert_allclose(split.mos, [0.325, 0.9243], rtol=0, atol=1e-6)
    assert split.deviations is not None
    np.testing.assert_allclose(split.deviations, [0.2, 0.15], rtol=0, atol=1e-6)


@pytest.mark.parametrize("card", list_datasets(), ids=lambda card: card.name)
def test_files_beside_a_card_are_there_and_well_formed(card: DataSetCard) -> None:
    for part in card.lists.values():
        indices = left_out(part)
        assert indices == sorted(set(indices))
    for file in filter(None, (card.scenes, card.groups)):
        with (FOLDER / file).open(encoding="utf-8", newline="") as stream:
            rows = [(row["path"], row["group"]) for row in csv.DictReader(stream)]
        sizes = Counter(group for _, group in rows)
        assert len({path for path, _ in rows}) == len(rows) > 0
        assert min(sizes.values()) > 1  # who is alone needs no row
