"""The lab: a local web page that shows what an optimizer does, computed by this library.

    command      `rmsprop lab`
    server       the page and its four calls, on loopback, with the checks a local server needs
    experiment   what a request may ask for: validated, bounded
    simulate     runs step by step; sweep: many settings, or many starts, at once
    notes        what happened, in sentences; script: the same experiment as Python and as a command
    wire         arrays as bytes
    page/        the built page; its source is web/

Nothing here computes an update: `rmsprop.RMSprop`, `rmsprop.baselines` and `rmsprop.formula` do.
"""

from __future__ import annotations
