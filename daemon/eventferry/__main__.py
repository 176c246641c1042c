"""`python -m eventferry` is the command `eventferry`."""

from eventferry.cli import main

if __name__ == "__main__":
    main()
