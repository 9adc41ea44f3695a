"""Scores a list of pictures on Spark: a Parquet or text file of paths in, Parquet of rows out.

    spark-submit examples/spark.py paths.parquet rows/ [--model default] [--partitions 64]

Every node needs this package, and reaches the pictures by their paths: URLs (extra ``[remote]``) or a shared disk.
Workers keep their scorer between tasks when Spark keeps its Python workers, as it does by default.
"""

from __future__ import annotations

import argparse
from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from dgiqa.executors.arrow import ArrowScorer, kept, schema


def score(paths: DataFrame, model: str = "default") -> DataFrame:
    """Rows of ``paths``, a frame with a column of text ``path``; the path comes out as text again.

    For a model that compares, a column ``ref`` names the originals.
    """
    function = ArrowScorer(partial(kept, model))
    columns = pa.schema([("path", pa.string()), *list(schema())[1:]])

    def scored(batches):
        for batch in function.map_batches(batches):
            yield batch.set_column(0, columns[0], batch.column(0).cast(pa.string()))

    wanted = [name for name in ("path", "ref") if name in paths.columns]
    return paths.select(*wanted).mapInArrow(scored, from_arrow_schema(columns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", help="Parquet with a column path, or a text file of one path a line")
    parser.add_argument("out", help="folder of Parquet files")
    parser.add_argument("--model", default="default")
    parser.add_argument("--partitions", type=int, help="tasks; default: as Spark reads the list")
    args = parser.parse_args()
    spark = SparkSession.builder.appName("dgiqa").getOrCreate()
    if args.paths.endswith(".parquet"):
        paths = spark.read.parquet(args.paths)
    else:
        paths = spark.read.text(args.paths).withColumnRenamed("value", "path")
    if args.partitions:
        paths = paths.repartition(args.partitions)
    score(paths, args.model).write.parquet(args.out)
    spark.stop()


if __name__ == "__main__":
    main()
