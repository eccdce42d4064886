"""The command line's entry: `derny` and `python -m derny`.

One rule: each verb is a module of `derny.cli`, loaded when it is used, so that asking for help is quick.
"""

from importlib import import_module

import click


class _LazyVerbs(click.Group):
    """Finds a verb in the module of its name, so that one verb never waits for what another imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["dev"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        verb = import_module(f"derny.cli.{cmd_name}").command
        assert isinstance(verb, click.Command)
        return verb


@click.command(cls=_LazyVerbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="derny")
def main() -> None:
    """The Peloton v1alpha cluster-scheduler API in one process."""


if __name__ == "__main__":
    main()
