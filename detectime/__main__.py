"""``python -m detectime``: the command ``detectime``."""

from detectime.cli.main import run_process

if __name__ == "__main__":
    run_process()
