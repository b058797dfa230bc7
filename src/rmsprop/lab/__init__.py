"""The lab: a page that shows how optimizers work, computed in the browser by this library's kernel.

    command      `rmsprop lab`: open the page, or write it to a file
    export       the page as text, with the state that it opens with
    server       serves it on loopback
    tables       what the page takes from the library's tables when it is built
    page/        the built page; its source is web/

A run is computed by cpp/kernel through web/src/engine.
"""

from __future__ import annotations
