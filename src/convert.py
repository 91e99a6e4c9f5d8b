"""Run `figureground convert` from a checkout, installed or not."""

from figureground.cli.convert import main

if __name__ == "__main__":
    main()
