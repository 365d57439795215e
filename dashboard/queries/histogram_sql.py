"""SQL for quantiles of many series at once: histograms of roll-ups added up, then cut at a share of their counts.

One sort does for all series: the function ``histogram_quantile``, called for each of a thousand, took three times as
long. While buckets are added up a series is a number: hashing names for each bucket took a third longer.
"""

from collections.abc import Mapping, Sequence


def quantiles(
    source: str, key: Sequence[str], shares: Mapping[str, float], *, values: str = "duration", coarse: int = 1
) -> str:
    """Common table expressions to follow one named ``source``, which has the columns of ``key`` and histograms.

    They define ``quantiles``: the columns of ``key``, and one in nanoseconds for each name of ``shares``. Buckets
    ``coarse`` times as wide are enough for a small line.
    """
    names = ", ".join(key)
    at = f"bucket / {coarse}" if coarse > 1 else "bucket"
    cuts = ", ".join(f"min(bucket) FILTER (WHERE seen >= {share} * total) AS {name}" for name, share in shares.items())
    middles = ", ".join(f"{_middle(name, coarse)} AS {name}" for name in shares)
    return f"""
        numbered AS MATERIALIZED (
            SELECT dense_rank() OVER (ORDER BY {names})::int AS series, {names}, {values}_buckets AS buckets,
                   {values}_counts AS counts
            FROM {source}
        ), merged AS (
            SELECT series, {at} AS bucket, sum(count)::bigint AS count
            FROM numbered, unnest(buckets, counts) AS histogram (bucket, count)
            GROUP BY series, {at}
        ), cumulated AS (
            SELECT series, bucket, sum(count) OVER (PARTITION BY series ORDER BY bucket)::bigint AS seen,
                   sum(count) OVER (PARTITION BY series)::bigint AS total
            FROM merged
        ), cut AS MATERIALIZED (
            SELECT series, {cuts} FROM cumulated GROUP BY series
        ), quantiles AS (
            SELECT {names}, {middles}
            FROM cut JOIN (SELECT DISTINCT series, {names} FROM numbered) AS named USING (series)
        )"""


def _middle(bucket: str, coarse: int) -> str:
    if coarse == 1:
        return f"histogram_bucket_middle({bucket})"
    first, last = f"{bucket} * {coarse}", f"{bucket} * {coarse} + {coarse - 1}"
    return f"(histogram_bucket_middle({first}) + histogram_bucket_middle({last})) / 2"
