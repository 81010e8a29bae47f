"""The sample day as people read it: a line for each step on stderr, a progress bar, a summary."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from operators.sample.day import Worker
from operators.sample.player import Played


class Timeline:
    """Prints as the day goes on; used as a context while it is played."""

    def __init__(self, steps: int, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        if not self._console.is_terminal:
            self._console.width = 160  # a file is not wrapped
        self._progress = Progress(
            TextColumn("[dim]sample day"),
            BarColumn(),
            MofNCompleteColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("day", total=steps)
        self._before = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def tell(self, played: Played) -> None:
        self._progress.advance(self._task)
        if not played.anew:
            self._before += 1
            return
        step = played.step
        door = "HR  " if isinstance(step.action, Worker) else "SCIM"
        line = Table.grid(padding=(0, 2, 0, 0))
        for width in (5, 12, 4):
            line.add_column(width=width, no_wrap=True)
        line.add_column()
        line.add_row(
            Text(step.time, style="dim"),
            Text(step.organization, style="cyan"),
            Text(door, style="dim"),
            Text(step.text),
        )
        self._console.print(line)
        self._console.print(Padding(_result(played), (0, 0, 0, 9), expand=False))

    def sum_up(self, played: Sequence[Played]) -> bool:
        """Prints how the day went; whether every step ended as expected."""
        wrong = [one for one in played if not one.as_expected]
        for one in wrong:
            state = one.event.state if one.event else "not accepted"
            self._console.print(f"[red]{one.step.name}[/red]: {state}, expected {one.expected}")
        if wrong:
            self._console.print(f"[red]{len(wrong)} of {len(played)} steps ended otherwise.[/red]")
        else:
            before = f" ({self._before} of them before this start)" if self._before else ""
            self._console.print(
                f"[green]All {len(played)} steps of the sample day ended as expected.[/green]{before}"
            )
        return not wrong


def _result(played: Played) -> Text:
    line = Text()
    event = played.event
    if event is None:
        return line.append("not accepted", style="red")
    effects = [name for name in played.effects if not name.startswith("event.")]
    if effects:
        line.append(", ".join(effects) + "  ", style="dim")
    ending = event.state + (f" ({event.result})" if event.result else "")
    style = "green" if played.as_expected else "yellow" if played.step.later else "red"
    line.append(ending, style=style)
    if event.error:
        line.append(f" {event.error.get('code')}", style="dim")
    if event.finished_at is not None:
        took = (event.finished_at - event.accepted_at).total_seconds() * 1000
        line.append(f"  {took:.0f}\N{NO-BREAK SPACE}ms", style="dim")
    return line
