"""The lab: a local web page that shows how optimizers work, computed by this library.

    command      `rmsprop lab`
    server       the page and its API, on loopback, with the checks that a local server needs
    experiment   the contents of a request, checked
    simulate     runs step by step; sweep: many settings, or many starts, at once
    notes        sentences about the runs; script: the experiment as Python and as a command
    wire         arrays as bytes
    page/        the built page; its source is web/

The updates are computed by `rmsprop.RMSprop`, `rmsprop.baselines` and `rmsprop.formula`.
"""

from __future__ import annotations
