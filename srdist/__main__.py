"""`python -m srdist` and `accelerate launch -m srdist`: the same commands as the `srdist` script."""

from srdist.cli.main import main

if __name__ == "__main__":
    main()
