"""`python -m mriad`: the command line of this very interpreter, whatever is on the PATH."""

from mriad.cli import main

if __name__ == "__main__":
    main()
