"""The example for Spark gives the rows of one machine. Needs pyspark and Java, which the dev extra leaves out."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("pyspark")
if not shutil.which("java"):
    pytest.skip("Spark needs Java", allow_module_level=True)

import dgiqa
from dgiqa.cli import main
from dgiqa.results.run import read_run

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def spark() -> Iterator[object]:
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    yield session
    session.stop()


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("spark_example", ROOT / "examples" / "spark.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_rows_are_those_of_one_machine(spark, tmp_path: Path) -> None:
    from pyspark import cloudpickle

    module = example()
    cloudpickle.register_pickle_by_value(module)  # spark-submit's main file is sent so, too
    paths = [str(path) for path in sorted((ROOT / "docs" / "pictures").glob("*.jpg"))]
    (tmp_path / "cut.jpg").write_bytes(Path(paths[0]).read_bytes()[:2000])
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as packed:
        packed.write(paths[0], "again.jpg")
    paths += [str(tmp_path / "cut.jpg"), f"{tmp_path / 'more.zip'}::again.jpg"]
    frame = spark.createDataFrame([(path,) for path in paths], ["path"]).repartition(3)
    module.score(frame).write.parquet(str(tmp_path / "rows"))
    found = {row["path"]: row.asDict() for row in spark.read.parquet(str(tmp_path / "rows")).collect()}
    assert main(["score", *paths, "--out", str(tmp_path / "run")]) == 1
    wanted = {row["path"]: row for row in read_run(tmp_path / "run")}
    assert found.keys() == wanted.keys()
    assert {path: {**row, "notes": None} for path, row in found.items()} == {
        path: {**row, "notes": None} for path, row in wanted.items()
    }


def test_a_column_of_originals_is_compared_with(spark, tmp_path: Path) -> None:
    from pyspark import cloudpickle

    module = example()
    cloudpickle.register_pickle_by_value(module)
    pictures = ROOT / "docs" / "pictures"
    pairs = [("landscape-low-light.jpg", "landscape.jpg"), ("street-haze.jpg", "street.jpg")]
    rows = [(str(pictures / spoiled), str(pictures / whole)) for spoiled, whole in pairs]
    rows.append((str(pictures / "room.jpg"), str(tmp_path / "missing.jpg")))
    frame = spark.createDataFrame(rows, ["path", "ref"]).repartition(2)
    found = {row["path"]: row.asDict() for row in module.score(frame, "full_reference.ssim").collect()}
    assert [found[path]["status"] for path, _ in rows] == ["ok", "ok", "failed"]
    assert "missing.jpg" in found[rows[-1][0]]["error"]
    ssim = dgiqa.load("full_reference.ssim", None)
    for path, original in rows[:2]:
        assert found[path]["raw"] == ssim.score(path, ref=original).as_row()["raw"]
