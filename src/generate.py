"""Run `figureground generate` from a checkout, installed or not."""

from figureground.cli.generate import main

if __name__ == "__main__":
    main()
