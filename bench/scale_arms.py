"""OmniScore, pairs and weights as a user would write them by hand, in SQL for DuckDB and in pandas."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from videodpo.config import OmniScore
from videodpo.runtime.snapshot import load_snapshot


def duckdb_arm(run: Path, out: Path, omniscore: OmniScore, alpha: float, bin_width: float) -> None:
    import duckdb

    names = sorted(omniscore.dimensions)
    scored, paired = out / "omniscore.parquet", out / "pairs.parquet"
    bounds = omniscore.dimensions
    norms = {name: f"({name}.value - {bounds[name].min}) / ({bounds[name].max} - {bounds[name].min})" for name in names}

    def pillar(which: str) -> str:
        inside = [name for name in names if bounds[name].pillar == which]
        total = sum(bounds[name].weight for name in inside)
        return f"({' + '.join(f'{bounds[name].weight} * norm_{name}' for name in inside)}) / {total}"

    quality, semantic = omniscore.pillars.quality, omniscore.pillars.semantic
    joins = "\n".join(
        f"JOIN read_parquet('{run}/round1/scores/{name}/*.parquet') {name} USING (video_id)" for name in names
    )
    is_ok = " AND ".join(f"{name}.status = 'ok'" for name in ("videos", *names))
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        connection.execute("SET preserve_insertion_order = false")  # less memory
        connection.execute(f"SET temp_directory = '{out}/spilled'")
        connection.execute(f"""
            COPY (
                WITH scaled AS (
                    SELECT video_id, videos.prompt_id, videos.sample,
                        {", ".join(f"{name}.value AS raw_{name}" for name in names)},
                        {", ".join(f"{norm} AS norm_{name}" for name, norm in norms.items())}
                    FROM read_parquet('{run}/round1/videos/*.parquet') videos
                    {joins}
                    WHERE {is_ok}
                ), pillars AS (
                    SELECT *, {pillar("quality")} AS quality, {pillar("semantic")} AS semantic FROM scaled
                )
                SELECT *, ({quality} * quality + {semantic} * semantic) / {quality + semantic} AS omniscore FROM pillars
            ) TO '{scored}' (FORMAT parquet, COMPRESSION zstd)""")
        connection.execute(f"""
            COPY (
                WITH histogram AS (
                    SELECT floor(omniscore / {bin_width} + 1e-9)::BIGINT AS bin, count(*) AS videos
                    FROM '{scored}' GROUP BY bin
                ), shares AS (
                    SELECT bin, videos / sum(videos) OVER () AS share FROM histogram
                ), best AS (
                    SELECT prompt_id,
                        arg_max(video_id, (omniscore, -sample)) AS winner_id, max(omniscore) AS score_winner,
                        arg_min(video_id, (omniscore, -sample)) AS loser_id, min(omniscore) AS score_loser
                    FROM '{scored}' GROUP BY prompt_id HAVING count(*) > 1 AND max(omniscore) > min(omniscore)
                ), weighed AS (
                    SELECT best.*, sqrt(winners.share * losers.share) AS probability
                    FROM best
                    JOIN shares winners ON winners.bin = floor(score_winner / {bin_width} + 1e-9)::BIGINT
                    JOIN shares losers ON losers.bin = floor(score_loser / {bin_width} + 1e-9)::BIGINT
                )
                SELECT row_number() OVER () - 1 AS pair_id, prompt_id, winner_id, loser_id, score_winner, score_loser,
                    score_winner - score_loser AS gap, probability,
                    ((SELECT max(share) FROM shares) / probability) ** {alpha} AS weight,
                    'best_worst' AS policy, 'omniscore' AS label_source
                FROM weighed
            ) TO '{paired}' (FORMAT parquet, COMPRESSION zstd)""")


def pandas_arm(run: Path, out: Path, omniscore: OmniScore, alpha: float, bin_width: float) -> None:
    names = sorted(omniscore.dimensions)
    bounds = omniscore.dimensions
    table = pd.read_parquet(run / "round1" / "videos", columns=["video_id", "prompt_id", "sample", "status"])
    table = table[table["status"] == "ok"].drop(columns="status")
    for name in names:
        scores = pd.read_parquet(run / "round1" / "scores" / name, columns=["video_id", "value", "status"])
        scores = scores[scores["status"] == "ok"].drop(columns="status").rename(columns={"value": f"raw_{name}"})
        table = table.merge(scores, on="video_id")
    for name in names:
        table[f"norm_{name}"] = (table[f"raw_{name}"] - bounds[name].min) / (bounds[name].max - bounds[name].min)
    for pillar in ("quality", "semantic"):
        inside = [name for name in names if bounds[name].pillar == pillar]
        weights = [bounds[name].weight for name in inside]
        table[pillar] = sum(weight * table[f"norm_{name}"] for name, weight in zip(inside, weights, strict=True)) / sum(
            weights
        )
    quality, semantic = omniscore.pillars.quality, omniscore.pillars.semantic
    table["omniscore"] = (quality * table["quality"] + semantic * table["semantic"]) / (quality + semantic)
    table.to_parquet(out / "omniscore.parquet", compression="zstd", index=False)

    ranked = table.sort_values(["omniscore", "sample"], ascending=[False, True])
    groups = ranked.groupby("prompt_id", sort=False)
    columns = ["prompt_id", "video_id", "omniscore"]
    best, worst = (side[columns] for side in (groups.head(1), groups.tail(1)))
    pairs = best.merge(worst, on="prompt_id", suffixes=("_winner", "_loser"))
    pairs = pairs[pairs["omniscore_winner"] > pairs["omniscore_loser"]]
    bins = np.floor(table["omniscore"] / bin_width + 1e-9).astype(int)
    shares = bins.value_counts(normalize=True)
    winner, loser = (
        np.floor(pairs[f"omniscore_{side}"] / bin_width + 1e-9).astype(int).map(shares) for side in ("winner", "loser")
    )
    probability = np.sqrt(winner * loser)
    pairs = pairs.rename(
        columns={
            "video_id_winner": "winner_id",
            "video_id_loser": "loser_id",
            "omniscore_winner": "score_winner",
            "omniscore_loser": "score_loser",
        }
    )
    pairs = pairs.assign(
        gap=pairs["score_winner"] - pairs["score_loser"],
        probability=probability,
        weight=(shares.max() / probability) ** alpha,
        policy="best_worst",
        label_source="omniscore",
        pair_id=np.arange(len(pairs)),
    )
    pairs.to_parquet(out / "pairs.parquet", compression="zstd", index=False)


ARMS = {"duckdb": duckdb_arm, "pandas": pandas_arm}


def main(arm: str, run: Path, out: Path) -> None:
    omniscore = load_snapshot(run / "config" / "omniscore.json", "omniscore").settings.omniscore
    pairs = load_snapshot(run / "config" / "pairs.json", "pairs").settings.pairs
    ARMS[arm](run, out, omniscore, pairs.reweight.exponent, pairs.reweight.bin_width)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
