"""Run `figureground prepare` from a checkout, installed or not."""

from figureground.cli.prepare import main

if __name__ == "__main__":
    main()
