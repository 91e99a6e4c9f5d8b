"""Run `figureground demo` from a checkout, installed or not."""

from figureground.cli.demo import main

if __name__ == "__main__":
    main()
