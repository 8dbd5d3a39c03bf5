"""How the demo looks: a live table on a terminal, plain lines elsewhere, a summary at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from realtime_stream.cli.demo import Result
    from realtime_stream.manager import RealTimeStreamManager
    from realtime_stream.market.models import Quote
    from realtime_stream.ports import Gap

__all__ = ["live_table", "plain_line", "print_summary"]


def live_table(quotes: Mapping[str, Quote | None], manager: RealTimeStreamManager) -> Table:
    """The present quotes and bars, and how the connection stands."""
    status = manager.status()
    table = Table(title=f"{status.connection.value}, {sum(status.delivered.values())} events")
    for heading in ("symbol", "bid", "ask", "spread bps", "last minute"):
        table.add_column(heading, justify="left" if heading == "symbol" else "right")
    for symbol, quote in quotes.items():
        bar = manager.latest_bar(symbol)
        minute = "-" if bar is None else f"{bar.timestamp:%H:%M} close {bar.close}"
        if quote is None or quote.spread_bps is None:
            table.add_row(symbol, "-", "-", "-", minute)
        else:
            bps = f"{quote.spread_bps:.2f}"
            table.add_row(symbol, str(quote.bid_price), str(quote.ask_price), bps, minute)
    return table


def plain_line(quotes: Mapping[str, Quote | None], manager: RealTimeStreamManager) -> str:
    """The same in one line."""
    status = manager.status()
    prices = "  ".join(
        f"{symbol} {'-' if quote is None else quote.mid_price}" for symbol, quote in quotes.items()
    )
    return f"{status.connection.value:12} {sum(status.delivered.values()):6} events  {prices}"


def print_summary(console: Console, result: Result, gaps: Sequence[Gap]) -> None:
    """What happened, and whether the accounts add up."""
    accounts, status = result.accounts, result.status
    verdict = "they add up" if accounts.add_up else "THEY DO NOT ADD UP"
    lines = [
        "",
        "summary",
        f"  bars in the callback  {result.bars_seen}",
        f"  reconnects            {result.reconnects} ({status.attempts} attempts)",
        *(
            f"  gap                   {gap.cause}, {gap.start:%H:%M:%S} to {gap.end:%H:%M:%S} UTC"
            f" market time, {len(gap.entries)} series, {accounts.in_gaps} messages missed"
            for gap in gaps
        ),
        f"  accounts              sent {accounts.sent} = delivered {accounts.delivered}"
        f" + in gaps {accounts.in_gaps} + superseded {accounts.superseded}"
        f" + dropped {accounts.dropped} + rejected {accounts.rejected}"
        f" + undelivered {accounts.undelivered}: {verdict}",
        f"  history               {result.status.backfill.bars} bars of the gap were filled in",
        f"  five-minute bars      {result.larger_bars} built here",
        f"  store                 {result.stored}",
        f"  highest lag           {status.lag.highest * 1000:.1f} ms from socket to callback",
        f"  stopped in            {result.stop_seconds:.3f} s",
    ]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
