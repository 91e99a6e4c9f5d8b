"""Run `figureground reproduce` from a checkout, installed or not."""

from figureground.cli.reproduce import main

if __name__ == "__main__":
    main()
