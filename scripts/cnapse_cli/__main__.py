"""`python -m cnapse_cli`: the same as the command `cnapse`."""

from cnapse_cli.main import main

main()
