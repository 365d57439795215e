"""SQL for quantiles of many series at once: histograms of roll-ups added up, then cut at a share of their counts.

One sort does for all series: the function ``histogram_quantile``, called for each of a thousand, took three times as
long. While buckets are added up, series and bucket are one number: hashing names for each bucket took twice as long.
Counts are added as floats, which are exact up to nine billion million: PostgreSQL's sum of bigint is a numeric, and
took half as long again.
"""

from collections.abc import Mapping, Sequence
from typing import Final

#: Bits of a bucket's index: a duration of 63 bits has bucket 3711.
_BITS: Final = 12
_SERIES: Final = f"(cell >> {_BITS})"
_BUCKET: Final = f"(cell & {2**_BITS - 1})::int"


def quantiles(
    source: str, key: Sequence[str], shares: Mapping[str, float], *, values: str = "duration", coarse: int = 1
) -> str:
    """Common table expressions to follow one named ``source``, which has the columns of ``key`` and histograms.

    They define ``quantiles``: the columns of ``key``, and one in nanoseconds for each name of ``shares``. Buckets
    ``coarse`` times as wide are enough for a small line.
    """
    names = ", ".join(key)
    bucket = f"unnest(buckets) / {coarse}" if coarse > 1 else "unnest(buckets)"
    cuts = ", ".join(
        f"min(bucket) FILTER (WHERE seen >= {share}::float8 * total) AS {name}" for name, share in shares.items()
    )
    middles = ", ".join(f"{_middle(name, coarse)} AS {name}" for name in shares)
    return f"""
        numbered AS MATERIALIZED (
            SELECT dense_rank() OVER (ORDER BY {names})::int AS series, {names}, {values}_buckets AS buckets,
                   {values}_counts AS counts
            FROM {source}
        ), parts AS (
            SELECT (series::bigint << {_BITS}) + {bucket} AS cell, unnest(counts) AS count FROM numbered
        ), cells AS (
            SELECT cell, sum(count::float8) AS count FROM parts GROUP BY cell
        ), cumulated AS (
            SELECT {_SERIES} AS series, {_BUCKET} AS bucket,
                   sum(count) OVER (PARTITION BY {_SERIES} ORDER BY cell ROWS UNBOUNDED PRECEDING) AS seen,
                   sum(count) OVER (PARTITION BY {_SERIES}) AS total
            FROM cells
        ), cut AS MATERIALIZED (
            SELECT series, {cuts} FROM cumulated GROUP BY series
        ), quantiles AS (
            SELECT {names}, {middles}
            FROM cut JOIN (SELECT DISTINCT series, {names} FROM numbered) AS named USING (series)
        )"""


def coarse_histograms(key: Sequence[str], coarse: int) -> str:
    """A common table expression to follow those of ``quantiles`` for the same ``key`` without ``coarse``.

    It defines ``histograms``: the columns of ``key``, ``levels`` (buckets ``coarse`` times as wide), their ``counts``.
    """
    names = ", ".join(key)
    return f"""
        levels AS (
            SELECT {_SERIES} AS series, {_BUCKET} / {coarse} AS level,
                   sum(count)::bigint AS count
            FROM cells GROUP BY 1, 2
        ), histograms AS (
            SELECT {names}, levels, counts
            FROM (
                SELECT series, array_agg(level ORDER BY level) AS levels, array_agg(count ORDER BY level) AS counts
                FROM levels GROUP BY series
            ) AS drawn JOIN (SELECT DISTINCT series, {names} FROM numbered) AS named USING (series)
        )"""


def _middle(bucket: str, coarse: int) -> str:
    if coarse == 1:
        return f"histogram_bucket_middle({bucket})"
    first, last = f"{bucket} * {coarse}", f"{bucket} * {coarse} + {coarse - 1}"
    return f"(histogram_bucket_middle({first}) + histogram_bucket_middle({last})) / 2"
