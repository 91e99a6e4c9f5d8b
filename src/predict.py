"""Run `figureground predict` from a checkout, installed or not."""

from figureground.cli.predict import main

if __name__ == "__main__":
    main()
