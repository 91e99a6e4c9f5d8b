"""`python -m figureground <command>`, the same as `figureground <command>`."""

from figureground.cli import main

if __name__ == "__main__":
    main()
