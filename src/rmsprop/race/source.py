"""What a source of the races' data is: a package, its files and how to install it."""

from __future__ import annotations

import dataclasses
from typing import Literal

__all__ = ["File", "Kind", "Source"]

Kind = Literal["debian", "npm", "pypi"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class File:
    """A file that a task reads.

    Attributes:
        name: What it is called in the cache and in messages; a `.gz` at the end of `inside` or `url` is not in it.
        inside: Its path in the package; "a.tar.gz!b" is b in the archive a of the package.
        package: The package, where it is not the source's own.
        sha256: Of its content; None of a program, which differs by machine.
        url: The makers' own download, of this file or of it with .gz.
        text: Line ends are made one newline.
    """

    name: str
    inside: str
    package: str = ""
    sha256: str | None
    url: str | None = None
    text: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A package with data in it.

    Attributes:
        name: What tasks call it.
        title: What the data are.
        kind: Whose package it is.
        packages: Names as apt, npm or pip know them; the first one carries the data.
        version: The one that the checksums were taken from.
        megabytes: To download.
        licence: Of the data.
        files: What is read of it.
        program: A program that is run and not read: one of the files, or else one on the PATH.
        fetched: Whether the package can be used without being installed.
        asked_for: It is large, and fetched only by its name or with everything.
    """

    name: str
    title: str
    kind: Kind
    packages: tuple[str, ...]
    version: str
    megabytes: float
    licence: str
    files: tuple[File, ...] = ()
    program: str | None = None
    fetched: bool = True
    asked_for: bool = False

    @property
    def installing(self) -> str:
        """The line that installs the package by hand."""
        if self.kind == "debian":
            return f"apt-get install {' '.join(self.packages)}"
        if self.kind == "npm":
            return f"npm install --ignore-scripts {self.packages[0]}@{self.version}"
        pinned = f"{self.packages[0]}=={self.version}"
        # What lies beside a package's code in its source archive is not installed with it.
        return (
            f"pip download --no-deps --no-binary :all: {pinned}" if self.archived else f"pip install --no-deps {pinned}"
        )

    @property
    def archived(self) -> bool:
        """Whether a file lies in an archive inside the package."""
        return any("!" in file.inside for file in self.files)
