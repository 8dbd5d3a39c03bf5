"""The table ``ohlcv_bars``.

TimescaleDB: where its extension has been created in the database (``CREATE EXTENSION
timescaledb``) the table becomes a hypertable. That branch has never been run against it.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

_TABLE: Final = "ohlcv_bars"
# A random UUID of version 4, and the present moment as the table's other times are written.
_SQLITE_ID: Final = (
    "(lower(hex(randomblob(6)) || '4' || substr(hex(randomblob(2)), 2) || "
    "substr('89AB', 1 + abs(random() % 4), 1) || substr(hex(randomblob(2)), 2) || "
    "hex(randomblob(6))))"
)
_SQLITE_NOW: Final = "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000+00:00')"
_CHECKS: Final = (
    ("volume", "{volume} >= 0"),
    (
        "prices",
        "{low} > 0 AND {open} BETWEEN {low} AND {high} AND {close} BETWEEN {low} AND {high}",
    ),
    ("vwap", "{vwap} >= 0"),
)
_CHECKED: Final = ("open", "high", "low", "close", "volume", "vwap")


def upgrade() -> None:
    """Create the table and its index."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    price, volume, ratio, moment = _types(sqlite=sqlite)
    op.create_table(
        _TABLE,
        sa.Column(
            "id",
            sa.Uuid(),
            nullable=False,
            server_default=sa.text(_SQLITE_ID if sqlite else "gen_random_uuid()"),
        ),
        sa.Column("symbol", sa.String(32), nullable=False),
        sa.Column("timeframe", sa.String(32), nullable=False),
        sa.Column("timestamp", moment, nullable=False),
        sa.Column("nanosecond", sa.SmallInteger(), nullable=False),
        sa.Column("open", price, nullable=False),
        sa.Column("high", price, nullable=False),
        sa.Column("low", price, nullable=False),
        sa.Column("close", price, nullable=False),
        sa.Column("spread", price, nullable=False),
        sa.Column("volume", volume, nullable=False),
        sa.Column("vwap", price),
        sa.Column("trade_count", sa.BigInteger()),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("is_update", sa.Boolean(), nullable=False),
        sa.Column("is_partial", sa.Boolean(), nullable=False),
        sa.Column("is_filled", sa.Boolean(), nullable=False),
        sa.Column("received_ns", sa.BigInteger(), nullable=False),
        sa.Column("spread_ratio", ratio),
        sa.Column("volume_ratio", ratio),
        sa.Column(
            "created_at",
            moment,
            nullable=False,
            server_default=sa.text(_SQLITE_NOW if sqlite else "now()"),
        ),
        sa.CheckConstraint("nanosecond BETWEEN 0 AND 999", name="ck_ohlcv_bars_nanosecond"),
        sa.CheckConstraint("trade_count >= 0", name="ck_ohlcv_bars_trade_count"),
        *_checks(sqlite=sqlite),
    )
    op.create_index(
        "idx_ohlcv_symbol_timeframe",
        _TABLE,
        ["symbol", "timeframe", sa.text("timestamp DESC"), sa.text("nanosecond DESC")],
        unique=True,
    )
    if not sqlite:
        _make_hypertable()


def downgrade() -> None:
    """Drop the table, and every bar in it."""
    op.drop_table(_TABLE)


def _types(*, sqlite: bool) -> tuple[Any, Any, Any, Any]:
    if sqlite:
        return sa.Text(), sa.Text(), sa.Text(), sa.Text()
    return sa.Numeric(28, 12), sa.Numeric(28, 9), sa.Numeric(10, 4), sa.DateTime(timezone=True)


def _checks(*, sqlite: bool) -> list[sa.CheckConstraint]:
    # Texts compare as texts. As doubles they may come out equal when they are not, never the other
    # way round, so no good bar is refused; the writer has compared the decimals before.
    shown = {name: f"CAST({name} AS REAL)" if sqlite else name for name in _CHECKED}
    return [
        sa.CheckConstraint(condition.format(**shown), name=f"ck_ohlcv_bars_{name}")
        for name, condition in _CHECKS
    ]


def _make_hypertable() -> None:
    found = op.get_bind().scalar(
        sa.text("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'")
    )
    if found:
        op.execute(f"SELECT create_hypertable('{_TABLE}', 'timestamp')")
