"""What a console prints, without the characters of names that would steer the terminal."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.measure import Measurement
from rich.segment import Segment

from medgan.text import printable


class Printable(RenderHook):
    """Escapes in whatever its console prints, tables and texts alike; the console's own colours are added later."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Each with its text escaped."""
        return [_Escaped(each, self.console) for each in renderables]


@dataclass(frozen=True)
class _Escaped:
    inner: ConsoleRenderable
    console: Console

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.inner, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text, lines=True))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self.inner)
