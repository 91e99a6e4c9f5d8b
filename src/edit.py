"""Run `figureground edit` from a checkout, installed or not."""

from figureground.cli.edit import main

if __name__ == "__main__":
    main()
