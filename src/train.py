"""Run `figureground train` from a checkout, installed or not."""

from figureground.cli.train import main

if __name__ == "__main__":
    main()
