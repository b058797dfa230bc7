"""The lab: a page that shows how optimizers work, computed in the browser by this library's kernel.

    command      `rmsprop lab`: open the page, or write it to a file
    page         the built page as text, with the state that it opens with; its source is web/
    server       serves it on loopback
    tables       what the page takes from the library's tables when it is built
"""

from __future__ import annotations
