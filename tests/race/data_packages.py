"""For the tests of the tasks' data: a made-up source, archives of it, and a list of what is in the cache."""

import hashlib
import io
import tarfile
import zipfile

from rmsprop.race.sources import File, Source

CONTENT = b"first line\nsecond line\n"


def make_source(kind="npm", *, inside="package/data/words.txt", files=None, program=None, **options):
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    return Source(
        name="words",
        title="some words",
        kind=kind,
        packages=("a-package-of-words",),
        version="1.2.3",
        megabytes=0.5,
        program=program,
        files=files or (File(name="words.txt", inside=inside, sha256=sha256, **options),),
    )


def make_tgz(members):
    """Pack bytes as files, and strings as links to them."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
    return raw.getvalue()


def make_zip(members):
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return raw.getvalue()


def list_cache(here):
    return sorted(str(path.relative_to(here / "cache")) for path in (here / "cache").rglob("*") if path.is_file())
