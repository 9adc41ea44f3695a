"""What a long run costs, measured on this machine, and what that makes for many pictures.

    python benchmarks/scale.py --pictures FOLDER [--limit 200] [--repeat 3] [--out benchmarks/scale_result.json]
    python benchmarks/scale.py --pictures FOLDER --measure listing  # only what begins so; the rest stays as it is there

Every measurement is a process of its own, they take turns, and medians are kept. Needs ``dgiqa[ray]``.

==========  ==========================================================================================================
rate        pictures a second with 1 and 2 workers, here and on a Ray of this machine's own, from the first row to the
            last; seconds to the first row; processor time a picture, which other load on the machine changes least
driver      what Ray Data and the rows cost the process that writes, with workers that score nothing, by sources a block
rows        what rows cost without Ray: processor, disk, memory, opening the run again; the manifest of 10,000 shards
listing     sources a second that a folder gives; what it costs to remember one that is named, or listed behind a URL
large       one picture of 12 megapixels, by itself
==========  ==========================================================================================================
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from machine import machine

import dgiqa
from dgiqa.executors import local
from dgiqa.executors import ray as on_ray
from dgiqa.results.run import Run, Shard
from dgiqa.sources import Found, Stamp
from dgiqa.sources.archives import LocalArchive, Member
from dgiqa.sources.local import Search
from dgiqa.types import Score

#: Rows of a measurement of the driver, by sources a block: some hundred blocks each.
BLOCKS = {32: 12_800, 128: 38_400, 512: 76_800}
#: Rows of a measurement without Ray, and rows a shard.
ROWS, SHARD_ROWS = 400_000, (1_000, 50_000)
MANY = 10**9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=200, help="pictures that are scored, drawn at random, seed 0")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("scale_result.json"))
    parser.add_argument("--measure", default="", help="what to measure anew")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # one measurement, in this process
    args = parser.parse_args()
    if args.only:
        kind, *rest = args.only.split()
        print(json.dumps(MEASUREMENTS[kind](args, *rest)))
        return
    wanted = [f"rate {where} {workers}" for where in ("local", "ray") for workers in (1, 2)]
    wanted += [f"driver {block}" for block in BLOCKS] + [f"rows {rows}" for rows in SHARD_ROWS] + ["listing", "large"]
    before = json.loads(args.out.read_text())["all"] if args.measure else {}
    anew = [name for name in wanted if name.startswith(args.measure)]
    found: dict[str, list[dict[str, float]]] = {name: [] if name in anew else before[name] for name in wanted}
    for _ in range(args.repeat):
        for name in anew:  # taking turns, so that a slow minute hits all alike
            found[name].append(measured(args, name))
            print(name, found[name][-1], file=sys.stderr)
    results = {
        name: {key: median([one[key] for one in several]) for key in several[0]} for name, several in found.items()
    }
    report = {
        "machine": machine(),
        "dgiqa": dgiqa.__version__,
        "repeat": args.repeat,
        "load": os.getloadavg()[1],
        "medians": results,
        "all": found,
        "projected": projected(results),
    }
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({"medians": results, "projected": report["projected"]}, indent=1))


def measured(args: argparse.Namespace, name: str) -> dict[str, float]:
    line = [sys.executable, __file__, "--pictures", str(args.pictures), "--limit", str(args.limit), "--only", name]
    # A share of a busy machine for each, whatever else its terminal runs.
    quiet: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "start_new_session": True}
    done = subprocess.run(line, check=True, text=True, **quiet)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def median(values: list[float]) -> float:
    return float(f"{statistics.median(values):.4g}")


def drawn(args: argparse.Namespace) -> list[Found]:
    """Pictures to score: the same for each measurement."""
    every = [found for found in dgiqa.find([args.pictures]) if not found.error]
    return sorted(random.Random(0).sample(every, min(args.limit, len(every))), key=lambda found: found.path)


class Metered:
    """A scorer that writes down its process's processor time after each call."""

    def __init__(self, folder: str) -> None:
        self._scorer, self._log = dgiqa.load(), Path(folder) / f"{os.getpid()}.cpu"
        self.model, self.runtime = self._scorer.model, self._scorer.runtime

    def score_batch(self, some: list[Any]) -> list[dgiqa.Result]:
        results = self._scorer.score_batch(some)
        with self._log.open("a") as log:
            print(time.process_time(), file=log)
        return results


def rate(args: argparse.Namespace, where: str, workers: str) -> dict[str, float]:
    """One run into a folder, as the command does it; on Ray its beginning counts, as it does for the command."""
    sources, times = drawn(args), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        opens: Any = partial(Metered, folder)
        scorer = opens()
        with Run(Path(folder) / "run", scorer.model) as run:
            if where == "local":
                results: Iterator[dgiqa.Result] = local.score_into(run, scorer, sources, workers=int(workers))
            else:
                results = on_ray.score_into(run, opens, sources, workers=int(workers))
            for result in results:
                assert result.ok, result
                times.append(time.perf_counter() - begun)
        logs = [[float(line) for line in log.read_text().split()] for log in Path(folder).glob("*.cpu")]
    first = sum(at < times[0] + 0.05 for at in times)  # rows of the first block come together
    return {
        "pictures": len(sources),
        "to_first_row_s": times[0],
        "whole_s": times[-1],
        "pictures_s": (len(times) - first) / (times[-1] - times[0]),
        "cpu_ms_a_picture": 1e3 * sum(log[-1] - log[0] for log in logs) / sum(len(log) - 1 for log in logs),
        "mean_bytes": statistics.mean(os.path.getsize(source.path) for source in sources),
    }


class Scoreless:
    """Says the same of every picture."""

    model, runtime = "dgiqa_mobile.biq2021@1.4", "onnx fp32"

    def score_batch(self, some: list[Any]) -> list[Score]:
        return [score_of(source.path) for source in some]


def score_of(path: str) -> Score:
    return Score(path, 55.51, 0.512345, Scoreless.model, 768, 512, (), 45.11, 65.22, 0.1, Scoreless.runtime)


def urls(count: int) -> Iterator[str]:
    for i in range(count):
        yield f"s3://bucket/pictures/2026/11/{i:010d}.jpg"


def driver(args: argparse.Namespace, block: str) -> dict[str, float]:
    import ray

    on_ray.BLOCK = on_ray.LARGEST_BLOCK = int(block)
    count, workers = BLOCKS[int(block)], 2
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    ray.init(address="local", num_cpus=workers, **quiet)
    with tempfile.TemporaryDirectory() as folder, Run(Path(folder) / "run", Scoreless.model) as run:
        archive = LocalArchive(str(Path(folder) / "bytes"))  # each picture is the same few bytes
        Path(archive.path).write_bytes(bytes(16))
        sources = (Found(url, origin=Member(archive, url, 0, 16, 16)) for url in urls(count))
        results = on_ray.score_into(run, Scoreless, sources, workers=workers)  # type: ignore[arg-type]
        begun, cpu_begun = time.perf_counter(), time.process_time()
        next(results)
        first, cpu_first = time.perf_counter(), time.process_time()
        done = sum(1 for _ in results)
        whole, cpu = time.perf_counter() - first, time.process_time() - cpu_first
    return {
        "to_first_row_s": first - begun,
        "to_first_row_cpu_s": cpu_first - cpu_begun,
        "rows_s": done / whole,
        "cpu_us_a_row": cpu / done * 1e6,
        "cpu_ms_a_block": cpu / done * int(block) * 1e3,
    }


def rows(args: argparse.Namespace, shard_rows: str) -> dict[str, float]:
    """Without Ray; memory is that of the second half, when nothing else grows."""
    resident, spent = [0, 0], 0.0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        with Run(place, Scoreless.model, rows=int(shard_rows)) as run:
            stream = urls(ROWS)
            for half in range(2):
                for url in islice(stream, ROWS // 2):
                    row, some = score_of(url).as_row(), random.Random(url)
                    stamp = Stamp(some.randrange(10**6), some.randbytes(16).hex(), some.randbytes(32).hex())
                    begun = time.process_time()
                    run.add(row, stamp)
                    spent += time.process_time() - begun
                run.flush()
                resident[half] = memory()
        shards = [file.stat().st_size for file in place.glob("rows-*")]
        manifest = (place / "_manifest.json").stat().st_size
        begun = time.process_time()
        with Run(place, Scoreless.model, resume=True) as run:
            opened = time.process_time() - begun
            run._shards = [Shard(f"rows-{i:06d}.parquet", 1000, 0) for i in range(10_000)]
            begun = time.process_time()
            run._write_manifest()
            many = time.process_time() - begun
    return {
        "cpu_us_a_row": spent / ROWS * 1e6,
        "disk_bytes_a_row": sum(shards) / ROWS,
        "memory_bytes_a_row": (resident[1] - resident[0]) / (ROWS / 2),
        "open_again_us_a_row": opened / ROWS * 1e6,
        "manifest_bytes_a_shard": manifest / len(shards),
        "manifest_of_10000_shards_ms": many * 1e3,
    }


def listing(args: argparse.Namespace) -> dict[str, float]:
    begun = time.perf_counter()
    count = sum(1 for _ in dgiqa.find([args.pictures]))
    took = time.perf_counter() - begun
    search, several, resident = Search(True), 300_000, memory()
    cpu = time.process_time()
    for url in urls(several):
        search.is_new(url)
    cpu = time.process_time() - cpu
    named = {"named_us": cpu / several * 1e6, "named_bytes": (memory() - resident) / several}
    return {"sources": count, "sources_s": count / took, **named}


def memory() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def large(args: argparse.Namespace) -> dict[str, float]:
    """A mosaic of pictures in their own size, 4000×3000, JPEG of quality 90: as much detail as a sharp photograph's."""
    import PIL.Image

    scorer, mosaic = dgiqa.load(), PIL.Image.new("RGB", (4000, 3000))
    sources = cycle(drawn(args))
    for y in range(0, 3000, 512):
        for x in range(0, 4000, 512):
            with PIL.Image.open(next(sources).path) as one:
                mosaic.paste(one.convert("RGB"), (x, y))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.jpg"
        mosaic.save(path, quality=90)
        scorer.score(path)
        times = []
        for _ in range(10):
            begun = time.process_time()
            scorer.score(path)
            times.append(time.process_time() - begun)
        return {"bytes": path.stat().st_size, "cpu_ms": statistics.median(times) * 1e3}


def projected(of: dict[str, dict[str, float]]) -> dict[str, float]:
    """MANY pictures, each number times so many; nothing is added for what grows faster than that.

    A core's rate is one over its processor time, as if it did nothing else.
    """
    ray, blocks = of["rate ray 2"], of["driver 512"]
    small, kept = (of[f"rows {rows}"] for rows in SHARD_ROWS)
    core = 1e3 / ray["cpu_ms_a_picture"]
    figures = {
        "pictures": MANY,
        "core_hours": MANY / core / 3600,
        "core_hours_of_12_megapixels": MANY * of["large"]["cpu_ms"] / 1e3 / 3600,
        "hours_of_500_workers": MANY / core / 3600 / 500,
        "rows_s_of_500_workers": 500 * core,
        "driver_rows_s": 1e6 / blocks["cpu_us_a_row"],
        "driver_hours": MANY * blocks["cpu_us_a_row"] / 1e6 / 3600,
        "picture_terabytes": MANY * ray["mean_bytes"] / 1e12,
        "picture_terabytes_of_12_megapixels": MANY * of["large"]["bytes"] / 1e12,
        "megabytes_s_of_500_workers": 500 * core * ray["mean_bytes"] / 1e6,
        "row_gigabytes": MANY * kept["disk_bytes_a_row"] / 1e9,
        "memory_gigabytes_of_one_run": MANY * small["memory_bytes_a_row"] / 1e9,
        "hours_to_open_one_run_again": MANY * kept["open_again_us_a_row"] / 1e6 / 3600,
        "listing_hours": MANY / of["listing"]["sources_s"] / 3600,
    }
    return {name: median([value]) for name, value in figures.items()}


MEASUREMENTS = {"rate": rate, "driver": driver, "rows": rows, "listing": listing, "large": large}

if __name__ == "__main__":
    main()
