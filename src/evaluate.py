"""Run `figureground evaluate` from a checkout, installed or not."""

from figureground.cli.evaluate import main

if __name__ == "__main__":
    main()
