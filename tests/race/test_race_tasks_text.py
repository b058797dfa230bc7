"""The tasks that read text, in miniature and on their real data: what they load and measure, and that they learn."""

import dataclasses
import itertools
import math
import subprocess

import numpy as np
import pytest

from rmsprop.errors import FileError
from rmsprop.race import data as sources

torch = pytest.importorskip("torch", reason="torch is not installed")

from taskchecks import Promises, needed, refuses_without_data, short, whole  # noqa: E402

from rmsprop.race.tasks import kjv, sentiment, translate  # noqa: E402
from torch_helpers import one_thread  # noqa: E402, F401

NAMES = ("kjv", "sentiment", "translate")


@pytest.fixture(scope="module", params=NAMES)
def loaded(request):
    needed(request.param)
    task = short(request.param)
    return task, task.load()


class TestEveryTask(Promises):
    def test_little_data_are_another_race(self, loaded):
        task, data = loaded
        assert data.fingerprint == task.load().fingerprint
        assert data.fingerprint != whole(task.name).fingerprint


@pytest.mark.parametrize("name", NAMES)
def test_missing_data_are_said_with_the_package(name, tmp_path, monkeypatch):
    refuses_without_data(name, tmp_path, monkeypatch)


# --- kjv


@pytest.fixture(scope="module")
def bible():
    needed("kjv")
    return whole("kjv")


def test_the_bible_is_whole_and_its_chapters_are_dealt_out_once(bible):
    texts = kjv.books()
    # The Authorised Version has 31,102 verses, and its longest chapter, Psalm 119, has 176.
    assert sum(text.count("\n") for text in texts.values()) == 31_102
    assert texts["train"].startswith("In the beginning God created the heaven and the earth.\n")
    assert bible.sizes == {name: len(text) for name, text in texts.items()}
    # "Jesus wept." is chapter 11 of John, the 1008th of all: in the eighth place of twenty, so trained on.
    assert "\nJesus wept.\n" in texts["train"]
    assert bible.sizes["train"] > 17 * bible.sizes["test"] > 16 * bible.sizes["valid"]


def test_chapters_do_not_overlap_between_the_splits():
    lines = [f"Bk{chapter}:{verse} {chapter}-{verse}" for chapter in range(1, 61) for verse in (1, 2)]
    dealt = {name: [line.split("-") for line in text.splitlines()] for name, text in kjv.by_chapter(lines).items()}
    chapters = {name: {int(chapter) for chapter, _ in verses} for name, verses in dealt.items()}
    assert chapters["valid"] == {10, 30, 50}
    assert chapters["test"] == {20, 40, 60}
    assert chapters["train"] == set(range(1, 61)) - chapters["valid"] - chapters["test"]
    assert sum(map(len, dealt.values())) == len(lines)


def test_bits_per_character_of_a_model_that_knows_nothing_are_the_logarithm_of_the_symbols(bible):
    learner = dataclasses.replace(kjv.TASK, short=True).learner(bible, 0)
    learner._splits["test"] = learner._splits["test"][: 64 * 65]
    with torch.no_grad():
        learner.model.output.weight.zero_()
        learner.model.output.bias.zero_()
    bits, nats = learner.score("test")
    assert bits == pytest.approx(math.log2(len(bible.content.symbols)), rel=1e-6)
    assert nats == pytest.approx(math.log(len(bible.content.symbols)), rel=1e-6)


def test_a_stream_goes_on_where_it_stood(bible):
    learner = kjv.TASK.learner(bible, 0)
    first, second = itertools.islice(learner.batches(1), 2)
    assert first.shape == (65, 64)
    # The last character of a step is the one before which the next step begins.
    assert torch.equal(first[-1], second[0])
    last = list(dataclasses.replace(kjv.TASK, short=True).learner(bible, 0).batches(1))[-1]
    following = next(iter(dataclasses.replace(kjv.TASK, short=True).learner(bible, 0).batches(2)))
    assert torch.equal(last[-1], following[0])


def test_the_clip_holds_for_every_step(bible):
    learner = kjv.TASK.learner(bible, 0)
    for batch in itertools.islice(learner.batches(1), 2):
        learner.gradients(batch)
        assert math.sqrt(sum(float((param.grad**2).sum()) for param in learner.params)) <= 1 + 1e-5


def test_a_sample_is_made_of_the_text_s_symbols_and_repeats_itself(bible):
    learner = kjv.TASK.learner(bible, 0)
    text = learner.sample(characters=40)
    assert len(text) == 40
    assert set(text) <= set(bible.content.symbols)
    assert text == learner.sample(characters=40)


def test_a_model_that_has_learned_a_line_by_heart_says_it(monkeypatch):
    for name, value in {"STREAMS": 4, "LENGTH": 28, "HIDDEN": 32}.items():
        monkeypatch.setattr(kjv, name, value)
    line = "And God said.\n"
    symbols = "".join(sorted(set(line)))
    text = torch.tensor([symbols.index(letter) for letter in line] * 40)
    learner = kjv.Writer(kjv.Letters({"train": text, "valid": text, "test": text}, symbols), 0, steps=80)
    optimizer = torch.optim.RMSprop(learner.params, lr=0.01)
    for batch in learner.batches(1):
        learner.gradients(batch)
        optimizer.step()
    assert learner.sample(characters=28) == 2 * line
    assert learner.score("test")[0] < 0.1


def test_a_program_that_reads_another_text_is_refused(monkeypatch, tmp_path):
    needed("kjv")
    other = tmp_path / "bible"
    other.write_text("#!/bin/sh\necho 'Ge1:1 In the beginning was the program.'\n")
    other.chmod(0o755)
    monkeypatch.setattr(sources, "program", lambda name: other)
    with pytest.raises(FileError, match=r"bible read another text .* expected cd45f0c9"):
        kjv.books()
    other.write_text("not a program")
    with pytest.raises(FileError, match=r"cannot read|read another text"):
        kjv.books()


def test_the_width_of_the_terminal_does_not_matter(monkeypatch):
    needed("kjv")
    monkeypatch.setenv("COLUMNS", "40")
    assert kjv.books()["train"].startswith("In the beginning God created the heaven and the earth.\n")


def test_a_program_that_was_fetched_reads_text_that_was_fetched(monkeypatch, tmp_path):
    needed("kjv")
    monkeypatch.setenv("RMSPROP_DATA", str(tmp_path))
    kept = tmp_path / "kjv"
    kept.mkdir()
    for file in sources.source("kjv").files:
        found = sources.program("kjv") if file.sha256 is None else sources.folder("kjv") / file.name
        (kept / file.name).write_bytes(found.read_bytes())
    (kept / "bible").chmod(0o755)
    monkeypatch.setattr(sources, "_places", lambda found, file: iter([sources.cache() / found.name / file.name]))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sources.program("kjv") == kept / "bible"
    assert sources.folder("kjv") == kept
    command = [kept / "bible", "-p", kept, "-f", "jn11:35"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert done.stdout == "John11:35 Jesus wept.\n"


# --- sentiment


def test_the_sentences_are_those_that_were_published():
    needed("sentiment")
    texts, kind = sentiment.sentences()
    # 10,605 sentences were rated (Hutto and Gilbert, 2014); those rated exactly 0 are left out.
    lines = sources.read("sentiment", "movieReviewSnippets_GroundTruth.txt").decode().strip().split("\n")
    assert len(lines) == 10_605
    assert len(texts) == len(kind) == sum(float(line.split("\t")[1]) != 0 for line in lines)
    assert texts[0].startswith("The Rock is destined to be the 21st Century's new ''Conan''")
    assert kind[0] == 1
    assert kind[texts.index("Terrible.")] == 0


def test_sentences_are_split_once_and_both_kinds_in_proportion():
    needed("sentiment")
    data = whole("sentiment")
    splits, vocabulary = data.content
    assert sum(data.sizes.values()) == len(sentiment.sentences()[0])
    shares = [float(part.kind.mean()) for part in splits.values()]
    assert max(shares) - min(shares) < 0.002
    assert max(int(part.tokens.max()) for part in splits.values()) == vocabulary - 1
    # Only words of the training sentences have a number: each of them occurs there.
    assert set(range(1, vocabulary)) - {1} <= set(splits["train"].tokens.unique().tolist()) | {0}


def test_accuracy_counts_the_sentences_judged_right():
    tokens = torch.tensor([[2, 0], [3, 2], [2, 2], [3, 3]])
    part = sentiment.Examples(tokens, torch.tensor([1.0, 1.0, 0.0, 0.0]))
    learner = sentiment.Critic({"train": part, "valid": part, "test": part}, 4, 0)

    class Stub(torch.nn.Module):
        def forward(self, tokens):
            # Kind if the first word is number 2: right about the first and the last sentence.
            return torch.where(tokens[:, 0] == 2, 1.0, -1.0)

    learner.model = Stub()
    accuracy, loss = learner.score("test")
    assert accuracy == 0.5
    right, wrong = math.log(1 + math.exp(-1)), math.log(1 + math.e)
    assert loss == pytest.approx((right + wrong) / 2, rel=1e-6)


def test_padding_does_not_change_a_judgement():
    from rmsprop.race.tasks._models import Judge

    torch.manual_seed(0)
    judge = Judge(10, embedded=4, hidden=3).eval()
    alone = judge(torch.tensor([[3, 4, 5]]))
    padded = judge(torch.tensor([[3, 4, 5, 0, 0], [6, 7, 8, 9, 2]]))
    torch.testing.assert_close(padded[:1], alone)


def test_hidden_words_are_three_of_ten_and_never_the_end():
    needed("sentiment")
    learner = sentiment.TASK.learner(short("sentiment").load(), 0)
    rare = sum(int((batch.tokens == sentiment.RARE).sum()) for batch in learner.batches(1))
    words = sum(int((batch.tokens > 0).sum()) for batch in learner.batches(1))
    tokens = learner._splits["train"].tokens
    assert words == int((tokens > 0).sum())
    already = int((tokens == sentiment.RARE).sum()) / words
    assert rare / words == pytest.approx(already + 0.3 * (1 - already), abs=0.01)


# --- translate


@pytest.mark.parametrize(
    ("a", "b", "edits"),
    [
        ("", "", 0),
        ("abc", "abc", 0),
        ("", "abc", 3),
        ("abc", "", 3),
        ("kitten", "sitting", 3),
        ("saturday", "sunday", 3),
        (["HH", "AH"], ["HH", "EH"], 1),
    ],
)
def test_edit_distances_are_the_known_ones(a, b, edits):
    assert translate.distance(a, b) == edits
    assert translate.distance(b, a) == edits


def test_the_dictionary_says_what_is_known_of_english():
    needed("translate")
    words, sounds = translate.dictionary()
    said = dict(zip(words, sounds, strict=True))
    assert len(said) == len(words)
    assert said["THOUGH"] == ["DH", "OW"]
    assert said["TOUGH"] == ["T", "AH", "F"]
    # The dictionary's own list has 39 phonemes.
    assert len({sound for one in sounds for sound in one}) == 39
    assert f"{len(words):,}" in translate.TASK.source
    assert max(*map(len, words), *map(len, sounds)) == translate.LONGEST


def test_words_are_kept_apart_between_the_splits():
    needed("translate")
    splits, _ = whole("translate").content
    words = {name: {tuple(row) for row in part.letters.tolist()} for name, part in splits.items()}
    assert not words["train"] & words["test"]
    assert not words["train"] & words["valid"]
    assert not words["valid"] & words["test"]


def test_as_many_test_words_have_a_relative_in_the_training_as_the_note_says():
    needed("translate")
    words, _ = translate.dictionary()
    order = np.random.default_rng(translate.SPLIT_SEED).permutation(len(words))
    test = [words[k] for k in order[translate.SCORED : 2 * translate.SCORED]]
    train = {words[k] for k in order[2 * translate.SCORED :]}
    related = sum(
        bool(train & {f"{word}'S", f"{word}S", word.removesuffix("'S"), word.removesuffix("S")}) for word in test
    )
    assert f"of {related} of the {len(test):,} test words" in translate.TASK.notes[1]
    assert whole("translate").sizes["test"] == len(test)


def test_the_error_rate_is_edits_over_the_dictionary_s_phonemes():
    end = translate.END
    letters = torch.tensor([[2, end, 0], [2, 3, end]])
    part = translate.Pairs(letters, torch.tensor([[5, 6, end, 0], [7, 8, 9, end]]))
    learner = translate.Pronouncer({"train": part, "valid": part, "test": part}, (5, 10), 0)
    # One phoneme wrong in the first word, one too many in the second: 2 edits over 2 + 3 phonemes.
    learner.model.say = lambda letters, limit: torch.tensor([[5, 7, end, 4, 4], [7, 8, 9, 9, end]])
    assert learner.score("test")[0] == pytest.approx(2 / 5)


def test_the_loss_of_a_split_is_the_mean_over_its_phonemes_whatever_the_chunks():
    # 501 words: a chunk of 500 short ones, and one long word alone, which counts by its phonemes and not as a half.
    letters = torch.full((501, 21), translate.PAD)
    letters[:, 0], letters[:, 1] = 2, translate.END
    phonemes = letters.clone()
    phonemes[500, :21] = torch.tensor([3] * 20 + [translate.END])
    split = translate.Pairs(letters, phonemes)
    learner = translate.Pronouncer({"train": split, "valid": split, "test": split}, (4, 4), 0)
    with torch.no_grad():
        logits = learner.model(letters[:, :2], phonemes)
        expected = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), phonemes.flatten(), ignore_index=translate.PAD
        )
    assert learner.score("test")[1] == pytest.approx(float(expected), rel=1e-5)


def test_a_speaker_learns_a_small_dictionary_by_heart(monkeypatch):
    monkeypatch.setattr(translate, "HIDDEN", 32)
    end = translate.END
    generator = torch.Generator().manual_seed(0)
    letters = torch.cat([torch.randint(2, 6, (32, 3), generator=generator), torch.full((32, 1), end)], dim=1)
    part = translate.Pairs(letters, torch.cat([letters[:, :3].flip(1), torch.full((32, 1), end)], dim=1))
    learner = translate.Pronouncer({"train": part, "valid": part, "test": part}, (6, 6), 0, steps=1)
    optimizer = torch.optim.RMSprop(learner.params, lr=0.003)
    for epoch in range(60):
        for batch in learner.batches(epoch):
            learner.gradients(batch)
            optimizer.step()
    assert learner.score("test")[0] == 0


def test_padding_does_not_change_what_is_said():
    from rmsprop.race.tasks._models import Translator

    torch.manual_seed(0)
    model = Translator(8, 8, embedded=4, hidden=3).eval()
    alone = model(torch.tensor([[3, 4, 1]]), torch.tensor([[5, 1]]))
    padded = model(torch.tensor([[3, 4, 1, 0, 0], [3, 4, 5, 6, 1]]), torch.tensor([[5, 1, 0], [5, 6, 1]]))
    torch.testing.assert_close(padded[:1, :2], alone)


def test_what_is_said_is_what_the_model_finds_likeliest_step_by_step():
    from rmsprop.race.tasks._models import Translator

    torch.manual_seed(1)
    model = Translator(8, 8, embedded=4, hidden=3).eval()
    letters = torch.tensor([[3, 4, 1], [5, 6, 1]])
    said = model.say(letters, limit=6)
    logits = model(letters, said)
    assert torch.equal(logits.argmax(dim=-1), said)
