"""Finding pictures: by content, in a stable order, each once, and nothing vanishes without a word."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

import pictures
from dgiqa.errors import ImageNotFound, ImageUnreadable
from dgiqa.sources import Found, find

PNG = pictures.encode(pictures.scene(3, 2), "PNG")


@pytest.fixture
def album(tmp_path, monkeypatch):
    """A folder, also the working directory, with every kind of file that a photographer's folder holds."""
    files = {
        "b.png": PNG,
        "a.JPG": pictures.encode(pictures.scene(3, 2), "JPEG"),
        "no_suffix": PNG,
        "odd.dat": pictures.encode(pictures.scene(3, 2), "TIFF"),
        "phone.heic": pictures.heic(),
        "shot.dng": pictures.dng(),
        "empty.jpg": b"",
        "letter.jpg": b"Dear diary",
        "notes.txt": b"Dear diary",
        "paper.pdf": b"%PDF-1.7",
        "film.mp4": b"\0\0\0\x18ftypisom\0\0\0\0isomavc1",
        "shot.xmp": b"<?xml version='1.0'?>",
        "film.thm": pictures.encode(pictures.scene(3, 2), "JPEG"),
        ".hidden.png": PNG,
        ".cache/c.png": PNG,
        "sub/c.png": PNG,
        "sub/deep/d.png": PNG,
        "sub/deep/paper.pdf": b"%PDF-1.7",
        "empty_sub/paper.pdf": b"%PDF-1.7",
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


TOP = ["a.JPG", "b.png", "empty.jpg", "letter.jpg", "no_suffix", "odd.dat", "phone.heic", "shot.dng"]
DEEP = ["sub/c.png", "sub/deep/d.png"]


def names(paths, **options) -> list[str]:
    found = list(find(paths, **options))
    assert all(item.error is None for item in found), found
    return [item.path for item in found]


def test_a_folder_gives_its_pictures_by_content_in_order(album):
    assert names([album]) == [str(album / name) for name in TOP + DEEP]
    assert names([album], recursive=False) == [str(album / name) for name in TOP]
    assert names(["sub"]) == DEEP
    assert names(["."]) == [f"./{name}" for name in TOP + DEEP]


def test_files_are_given_back_as_they_were_named(album):
    given = ["sub/../b.png", "paper.pdf", ".hidden.png", "no/../a.JPG"]
    assert names(given[:3]) == given[:3]
    assert names([Path("b.png")]) == ["b.png"]
    assert names("b.png") == ["b.png"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["b.png"]),
        ("?.*", ["a.JPG", "b.png"]),
        ("[ab].*", ["a.JPG", "b.png"]),
        ("*/*.png", ["sub/c.png"]),
        ("**/*.png", ["b.png", "sub/c.png", "sub/deep/d.png"]),
        ("sub/**/*.png", DEEP),
        ("sub/**", DEEP),
        ("su*", DEEP),
        ("sub/**/deep/*", ["sub/deep/d.png"]),
        ("**", TOP + DEEP),
    ],
)
def test_patterns(album, pattern, expected):
    assert names([pattern]) == expected
    absolute = [str(album / name) for name in expected]
    assert names([str(album / pattern)]) == absolute


def test_a_pattern_lists_the_pictures_only(album):
    assert sorted(names(["*"], recursive=False)) == sorted([*TOP, *DEEP[:1]])


def test_a_literal_file_comes_before_a_pattern(album):
    (album / "[ab].png").write_bytes(PNG)
    assert names(["[ab].png"]) == ["[ab].png"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("missing.jpg", "missing.jpg: no such file or folder; check the path"),
        ("*.webp", "*.webp: no picture matches the pattern; check the path and quotes"),
        ("no/*/x.png", "no/*/x.png: no picture matches the pattern; check the path and quotes"),
        ("*.pdf", "*.pdf: no picture matches the pattern; check the path and quotes"),
    ],
)
def test_what_leads_to_no_picture_is_said_once(album, path, text):
    (found,) = find([path, path])
    assert found.path == path
    assert type(found.error) is ImageNotFound
    assert str(found.error) == text


def test_a_folder_without_pictures_is_nothing(album):
    assert names(["empty_sub"]) == []


def test_a_folder_that_cannot_be_read_is_said_and_the_rest_goes_on(album, monkeypatch):
    scandir = os.scandir

    def forbidden(path):
        if os.fspath(path).endswith("sub"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    found = list(find(["sub", "b.png"]))
    assert [item.path for item in found] == ["sub", "b.png"]
    assert type(found[0].error) is ImageUnreadable
    assert str(found[0].error) == (
        "sub: the folder can't be read (Permission denied); check its permissions, or leave it out"
    )
    inside = [item for item in find([album]) if item.error]
    assert [item.path for item in inside] == [str(album / "empty_sub"), str(album / "sub")]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["b.png", "b.png", "./b.png"], ["b.png"]),
        (["sub/c.png", "sub"], ["sub/c.png", "sub/deep/d.png"]),
        (["sub", "sub/c.png", "sub/deep"], DEEP),
        (["sub/deep", "sub"], ["sub/deep/d.png", "sub/c.png"]),
        (["sub", "sub/", "./sub"], DEEP),
        (["sub", "sub/deep/paper.pdf"], [*DEEP, "sub/deep/paper.pdf"]),
        (["b.png", "*.png"], ["b.png"]),
        (["*.png", "**/*.png"], ["b.png", *DEEP]),
    ],
)
def test_every_picture_is_listed_once(album, paths, expected):
    assert names(paths) == expected


def test_the_order_of_two_runs_is_the_same(album, monkeypatch):
    first = names(["."])
    listed = os.scandir

    class Reversed:
        def __init__(self, path):
            with listed(path) as entries:
                self.entries = list(entries)[::-1]

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(os, "scandir", Reversed)
    assert names(["."]) == first


def test_links(album):
    (album / "sub" / "loop").symlink_to(album, target_is_directory=True)
    (album / "sub" / "link.png").symlink_to(album / "b.png")
    (album / "sub" / "broken.png").symlink_to(album / "gone.png")
    expected = ["sub/broken.png", "sub/c.png", "sub/link.png", "sub/deep/d.png"]
    assert names(["sub"]) == expected
    assert names(["sub/**"]) == expected
    assert names(["sub/**/*.png"]) == expected
    (album / "other").symlink_to(album / "sub", target_is_directory=True)
    assert names(["other"], recursive=False) == ["other/broken.png", "other/c.png", "other/link.png"]


def test_pipes_are_neither_listed_nor_opened(album):
    os.mkfifo(album / "sub" / "pipe.png")
    os.mkfifo(album / "sub" / "pipe")
    assert names(["sub"]) == DEEP


def test_it_is_lazy(album, monkeypatch):
    """One folder is read at a time, and no further argument is looked at before it is needed."""
    read = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: read.append(path) or scandir(path))
    endless = itertools.chain(["."], itertools.repeat("sub"))
    search = find(endless)
    assert next(search) == Found("./a.JPG")
    assert read == ["."]
    assert [item.path for item in itertools.islice(search, len(TOP))][-1] == "./sub/c.png"
    assert len(read) == 3  # the empty subfolder, and sub


def test_overlapping_arguments_are_no_failure(tmp_path: Path) -> None:
    """A folder and a pattern that matches the same folder: its pictures once, and no complaint."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jpg").write_bytes(b"")
    found = list(find([tmp_path / "sub", str(tmp_path / "su*")]))
    assert [(item.path, item.error) for item in found] == [(str(tmp_path / "sub" / "a.jpg"), None)]


def test_a_name_with_nul_is_a_clear_failure() -> None:
    (found,) = find(["a\0b.jpg"])
    assert str(found.error) == "'a\\x00b.jpg': no path has a NUL in it; check the list"
