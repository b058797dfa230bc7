"""The tasks that read text: what they load, metrics by hand, and models that ignore padding."""

import itertools
import math

import numpy as np
import pytest
from task_data import get_first_batches, load, load_tiny_finetune, train_task

from rmsprop.errors import FileError
from rmsprop.race import data as task_data
from rmsprop.race import get

torch = pytest.importorskip("torch", reason="torch is not installed")

from rmsprop.race.tasks import kjv, sentiment, translate  # noqa: E402
from rmsprop.race.tasks._learner import Content  # noqa: E402
from rmsprop.race.tasks.translate import END, PAD  # noqa: E402


def make_content(part, spec):
    return Content({"train": part, "valid": part, "test": part}, spec)


# --- kjv


@pytest.mark.slow
def test_the_bible_has_all_verses_and_its_chapters_are_in_one_split_each():
    _, data = load("kjv")
    texts = kjv.read_bible()
    # The Authorized Version has 31,102 verses.
    assert sum(text.count("\n") for text in texts.values()) == 31_102
    assert texts["train"].startswith("In the beginning God created the heaven and the earth.\n")
    assert data.sizes == {name: len(text) for name, text in texts.items()}
    # "Jesus wept." is in chapter 11 of John, the 1008th of all: in the eighth place of twenty, so trained on.
    assert "\nJesus wept.\n" in texts["train"]
    assert data.sizes["train"] > 17 * data.sizes["test"] > 16 * data.sizes["valid"]


def test_every_tenth_of_twenty_chapters_validates_and_every_twentieth_tests():
    lines = [f"Bk{chapter}:{verse} {chapter}-{verse}" for chapter in range(1, 61) for verse in (1, 2)]
    splits = {name: [line.split("-") for line in text.splitlines()] for name, text in kjv.split_chapters(lines).items()}
    chapters = {name: {int(chapter) for chapter, _ in verses} for name, verses in splits.items()}
    assert (chapters["valid"], chapters["test"]) == ({10, 30, 50}, {20, 40, 60})
    assert chapters["train"] == set(range(1, 61)) - chapters["valid"] - chapters["test"]
    assert sum(map(len, splits.values())) == len(lines)


def test_bits_per_character_by_hand():
    task, data = load("kjv", short=True)
    learner = task.learner(data, 0)
    with torch.no_grad():
        for param in learner.model["output"].parameters():
            param.zero_()
    with task.session():
        bits, nats = learner.score("test")
    assert bits == pytest.approx(math.log2(len(data.content.spec)), rel=1e-6)
    assert nats == pytest.approx(math.log(len(data.content.spec)), rel=1e-6)


def test_a_stream_goes_on_where_the_step_and_the_epoch_before_ended():
    task, data = load("kjv", short=True)
    learner = task.learner(data, 0)
    batches = [*learner.batches(1), next(iter(learner.batches(2)))]
    assert batches[0].shape == (65, 64)
    # The last character of a step is the first input of the next.
    assert all(torch.equal(first[-1], second[0]) for first, second in itertools.pairwise(batches))


def test_a_sample_is_made_of_the_text_s_characters_and_is_reproducible():
    task, data = load("kjv", short=True)
    learner = task.learner(data, 0)
    with task.session():
        text, again = learner.sample(characters=40), learner.sample(characters=40)
    assert len(text) == 40
    assert set(text) <= set(data.content.spec)
    assert text == again


@pytest.mark.slow
def test_a_model_that_has_memorized_a_line_samples_it(monkeypatch):
    for name, value in {"STREAMS": 4, "LENGTH": 28, "HIDDEN": 32}.items():
        monkeypatch.setattr(kjv, name, value)
    line = "And God said.\n"
    alphabet = "".join(sorted(set(line)))
    text = torch.tensor([alphabet.index(letter) for letter in line] * 40)
    task = get("kjv")
    with task.session():
        learner = kjv.Learner(task, make_content(kjv.Text(text), alphabet), 0)
        optimizer = torch.optim.RMSprop(learner.params, lr=0.01)
        for batch in itertools.islice(learner.batches(1), 80):
            learner.gradients(batch)
            optimizer.step()
        assert learner.sample(characters=28) == 2 * line
        assert learner.score("test")[0] < 0.1


def test_a_program_that_fails_or_prints_another_text_raises(monkeypatch, tmp_path):
    load("kjv")
    other = tmp_path / "bible"
    other.write_text("#!/bin/sh\necho 'Ge1:1 In the beginning was the program.'\n")
    other.chmod(0o755)
    monkeypatch.setattr(task_data, "find_program", lambda name: other)
    with pytest.raises(FileError, match=r"bible printed an unexpected text .* expected cd45f0c9"):
        kjv.read_bible()
    other.write_text("not a program")
    with pytest.raises(FileError, match=r"cannot read|printed an unexpected text"):
        kjv.read_bible()


def test_the_width_of_the_terminal_does_not_change_the_text(monkeypatch):
    load("kjv")
    monkeypatch.setenv("COLUMNS", "40")
    assert kjv.read_bible()["train"].startswith("In the beginning God created the heaven and the earth.\n")


# --- sentiment


def test_the_sentences_are_those_that_were_published_split_in_proportion():
    _, data = load("sentiment")
    texts, positive = sentiment.read_sentences()
    # 10,605 sentences were rated (Hutto and Gilbert, 2014); those rated exactly 0 are left out.
    lines = task_data.read("sentiment", "movieReviewSnippets_GroundTruth.txt").decode().strip().split("\n")
    assert len(lines) == 10_605
    assert len(texts) == sum(data.sizes.values()) == sum(float(line.split("\t")[1]) != 0 for line in lines)
    assert texts[0].startswith("The Rock is destined to be the 21st Century's new ''Conan''")
    assert (positive[0], positive[texts.index("Terrible.")]) == (1, 0)
    splits, words = data.content
    shares = [float(part.positive.mean()) for part in splits.values()]
    assert max(shares) - min(shares) < 0.002
    # Each word that has a number is in the training sentences.
    assert set(range(1, words)) <= {*splits["train"].tokens.unique().tolist(), sentiment.RARE}
    assert max(int(part.tokens.max()) for part in splits.values()) == words - 1


def test_sentiment_accuracy_and_loss_by_hand():
    tokens = torch.tensor([[2, 0], [3, 2], [2, 2], [3, 3]])
    part = sentiment.Sentences(tokens, torch.tensor([1.0, 1.0, 0.0, 0.0]))
    learner = sentiment.Learner(get("sentiment"), make_content(part, 4), 0)
    # Positive if the first word is number 2: right about the first and the last sentence.
    learner.predict = lambda tokens: torch.where(tokens[:, 0] == 2, 1.0, -1.0)
    accuracy, loss = learner.score("test")
    assert accuracy == 0.5
    assert loss == pytest.approx((math.log(1 + math.exp(-1)) + math.log(1 + math.e)) / 2, rel=1e-6)


def test_three_of_ten_training_words_are_hidden_and_never_the_padding():
    task, data = load("sentiment", short=True)
    batches = list(task.learner(data, 0).batches(1))
    tokens = data.content.splits["train"].tokens
    words = sum(int((batch.tokens > 0).sum()) for batch in batches)
    assert words == int((tokens > 0).sum())
    rare = sum(int((batch.tokens == sentiment.RARE).sum()) for batch in batches) / words
    before = int((tokens == sentiment.RARE).sum()) / words
    assert rare == pytest.approx(before + 0.3 * (1 - before), abs=0.01)


# --- translate


@pytest.mark.parametrize(
    ("a", "b", "edits"),
    [
        ("", "", 0),
        ("abc", "abc", 0),
        ("", "abc", 3),
        ("kitten", "sitting", 3),
        ("saturday", "sunday", 3),
        (["HH", "AH"], ["HH", "EH"], 1),
    ],
)
def test_edit_distances_are_the_known_ones(a, b, edits):
    assert translate.compute_edit_distance(a, b) == translate.compute_edit_distance(b, a) == edits


@pytest.mark.slow
def test_the_dictionary_is_the_published_one_and_its_words_are_in_one_split_each():
    task, data = load("translate")
    words, sounds = translate.read_dictionary()
    pronunciation = dict(zip(words, sounds, strict=True))
    assert pronunciation["THOUGH"] == ["DH", "OW"]
    assert pronunciation["TOUGH"] == ["T", "AH", "F"]
    # The dictionary's own list has 39 phonemes.
    assert len(set(itertools.chain(*sounds))) == 39
    assert f"{len(words):,}" in task.source
    assert max(*map(len, words), *map(len, sounds)) == translate.LONGEST
    rows = {tuple(row) for part in data.content.splits.values() for row in part.letters.tolist()}
    assert len(rows) == len(pronunciation) == len(words)


@pytest.mark.slow
def test_the_note_says_how_many_test_words_have_a_related_training_word():
    task, _ = load("translate")
    words, _ = translate.read_dictionary()
    order = np.random.default_rng(translate.SPLIT_SEED).permutation(len(words))
    scored = translate.SCORED
    test, train = [words[k] for k in order[scored : 2 * scored]], {words[k] for k in order[2 * scored :]}
    related = sum(
        bool(train & {f"{word}'S", f"{word}S", word.removesuffix("'S"), word.removesuffix("S")}) for word in test
    )
    assert f"For {related} of the {len(test):,} test words" in task.notes[1]


def test_the_phoneme_error_rate_by_hand():
    letters = torch.tensor([[2, END, 0], [2, 3, END]])
    part = translate.Words(letters, torch.tensor([[5, 6, END, 0], [7, 8, 9, END]]))
    learner = translate.Learner(get("translate"), make_content(part, (5, 10)), 0)
    # One phoneme wrong in the first word, one too many in the second: 2 edits over 2 + 3 phonemes.
    learner.generate = lambda letters, limit: torch.tensor([[5, 7, END, 4, 4], [7, 8, 9, 9, END]])
    assert learner.score("test")[0] == pytest.approx(2 / 5)


def test_the_loss_of_a_split_is_the_mean_over_its_phonemes_whatever_the_chunks():
    # 501 words: a chunk of 500 short ones, and one long word alone, which counts by its phonemes and not as a half.
    letters = torch.full((501, 21), PAD)
    letters[:, 0], letters[:, 1] = 2, END
    phonemes = letters.clone()
    phonemes[500, :21] = torch.tensor([3] * 20 + [END])
    task = get("translate")
    learner = translate.Learner(task, make_content(translate.Words(letters, phonemes), (4, 4)), 0)
    with task.session(), torch.no_grad():
        logits = learner.predict(translate.Words(letters[:, :2], phonemes)).flatten(0, 1)
        expected = torch.nn.functional.cross_entropy(logits, phonemes.flatten(), ignore_index=PAD)
        assert learner.score("test")[1] == pytest.approx(float(expected), rel=1e-5)


def test_a_model_learns_a_small_dictionary_by_heart(monkeypatch):
    monkeypatch.setattr(translate, "HIDDEN", 32)
    generator = torch.Generator().manual_seed(0)
    letters = torch.randint(2, 6, (32, 3), generator=generator)
    ends = torch.full((32, 1), END)
    part = translate.Words(torch.cat([letters, ends], dim=1), torch.cat([letters.flip(1), ends], dim=1))
    task = get("translate")
    with task.session():
        learner = translate.Learner(task, make_content(part, (6, 6)), 0)
        optimizer = torch.optim.RMSprop(learner.params, lr=0.003)
        for epoch in range(60):
            for batch in learner.batches(epoch):
                learner.gradients(batch)
                optimizer.step()
        assert learner.score("test")[0] == 0


def test_the_generated_phonemes_are_the_most_likely_ones_step_by_step():
    letters = torch.tensor([[3, 4, END], [5, 6, END]])
    learner = translate.Learner(get("translate"), make_content(translate.Words(letters, letters), (8, 8)), 1)
    phonemes = learner.generate(letters, limit=6)
    assert torch.equal(learner.predict(translate.Words(letters, phonemes)).argmax(dim=-1), phonemes)


def test_padding_does_not_change_the_logits():
    learner = sentiment.Learner(
        get("sentiment"), make_content(sentiment.Sentences(torch.empty(0), torch.empty(0)), 10), 0
    )
    alone, padded = (learner.predict(torch.tensor(rows)) for rows in ([[3, 4, 5]], [[3, 4, 5, 0, 0], [6, 7, 8, 9, 2]]))
    torch.testing.assert_close(padded[:1], alone)
    alone = translate.Words(torch.tensor([[3, 4, 1]]), torch.tensor([[5, 1]]))
    padded = translate.Words(torch.tensor([[3, 4, 1, 0, 0], [3, 4, 5, 6, 1]]), torch.tensor([[5, 1, 0], [5, 6, 1]]))
    learner = translate.Learner(get("translate"), make_content(padded, (8, 8)), 0)
    torch.testing.assert_close(learner.predict(padded)[:1, :2], learner.predict(alone))


# --- finetune: a small random transformer, and MiniLM itself where it is on this machine


@pytest.fixture(scope="module")
def short_task():
    return load_tiny_finetune()


def test_every_weight_gets_a_gradient(short_task):
    task, data = short_task
    learner = task.learner(data, 0)
    loss, _ = learner.gradients(next(iter(learner.batches(1))))
    assert loss == pytest.approx(np.log(2), abs=0.2)
    assert [name for name, param in learner.model.named_parameters() if param.grad is None] == []


def test_a_trial_trains_a_copy_of_the_transformer(short_task):
    task, data = short_task
    before = {name: value.clone() for name, value in data.content.spec.state_dict().items()}
    trial = train_task(task, data, lr=0.0001, epochs=2)
    assert trial.train_loss[1] < trial.train_loss[0]
    after = data.content.spec.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_padding_does_not_change_the_logits_of_the_transformer(short_task):
    task, data = short_task
    learner = task.learner(data, 0)
    learner.model.double().eval()  # in float64, because the order of float32 sums also makes a difference
    part = data.content.splits["test"]
    shortest = int(part.mask.sum(1).argmin())
    alone = type(part)(*(tensor[shortest : shortest + 1] for tensor in part))
    with torch.no_grad():
        together = learner.predict(part)[shortest]
        torch.testing.assert_close(together, learner.predict(alone)[0], rtol=1e-10, atol=1e-10)
        unmasked = learner.predict(part._replace(mask=torch.ones_like(part.mask)))[shortest]
    assert (unmasked - together).abs().max() > 1e-6


def test_the_finetune_splits_do_not_overlap(short_task):
    _, data = short_task
    rows = [{tuple(row) for row in part.tokens.tolist()} for part in data.content.splits.values()]
    assert all(not a & b for i, a in enumerate(rows) for b in rows[i + 1 :])


def test_each_pass_has_another_order(short_task):
    task, data = short_task
    (first,), (second,) = (get_first_batches(task, data, epoch=epoch) for epoch in (1, 2))
    # All the training sentences of the short data are one batch.
    assert sorted(first.tokens.tolist()) == sorted(second.tokens.tolist())
    assert not torch.equal(first.tokens, second.tokens)


@pytest.mark.slow
def test_minilm_itself_is_trained():
    task, data = load("finetune", short=True)
    trial = train_task(task, data, lr=2e-5, epochs=2)
    assert trial.train_loss[1] < trial.train_loss[0]
