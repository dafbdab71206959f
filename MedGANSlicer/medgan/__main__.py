"""``python -m medgan`` is the ``medgan`` command."""

from medgan.cli import main

main()
