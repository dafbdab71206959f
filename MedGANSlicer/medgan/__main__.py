"""The ``medgan`` command, also as ``python -m medgan``: what Ctrl-C says while it loads is said without a traceback."""

import sys


def main() -> None:
    """Load the command and run it; its exit code ends the process."""
    try:
        from medgan import cli
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
