"""`python -m rmsprop` is the `rmsprop` command."""

from rmsprop.cli import main

if __name__ == "__main__":
    main()
