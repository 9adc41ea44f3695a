"""Training end to end: it learns, a killed run goes on to the same weights, processes and parts change nothing, and
it ends in a card that scores. What leaves the repository of weights is refused when it differs."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import dgiqa  # noqa: E402
from dgiqa.cards import Calibration, read_card  # noqa: E402
from dgiqa.cli import main  # noqa: E402
from dgiqa.datasets import read_split  # noqa: E402
from dgiqa.errors import UsageError, WeightsError  # noqa: E402
from dgiqa.export.onnx import export  # noqa: E402
from dgiqa.metrics.correlation import srcc  # noqa: E402
from dgiqa.models import DEFAULT, build_network, find_card  # noqa: E402
from dgiqa.training import held_out, looks, loop, start, teacher  # noqa: E402
from dgiqa.training.depth import invariant_loss  # noqa: E402
from dgiqa.training.optimiser import Scales, make_optimiser, move_average, set_rate, set_training  # noqa: E402
from dgiqa.training.publish import publish, relying_on, replace_table  # noqa: E402
from dgiqa.training.recipe import Plan, Train  # noqa: E402
from dgiqa.training.sets import read_sets  # noqa: E402
from dgiqa.training.statistics import statistics_of  # noqa: E402
from dgiqa.training.validation import predict, show  # noqa: E402
from tolerances import BETWEEN_RUNTIMES  # noqa: E402
from training_case import RECIPE, Tiny, plan_of, run_of, write_set  # noqa: E402

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("biq2021"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "build_network", lambda card: Tiny())


def state_of(out: Path) -> dict:
    return torch.load(out / "checkpoint.pt", weights_only=True)


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def lines_of(out: Path) -> list[dict]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def child(
    folder: Path, out: Path, root: Path, cache: Path, kind: str, *settings: str, **extra: str
) -> subprocess.Popen:
    command = [sys.executable, str(HERE / "training_case.py"), *map(str, (folder, out, root, cache)), kind, *settings]
    return subprocess.Popen(command, env=os.environ | extra, stderr=subprocess.DEVNULL)


def test_a_killed_run_goes_on_to_the_same_weights(root: Path, cache: Path, tmp_path: Path) -> None:
    """The whole network, frozen parts, ladders, moving average and all: to the last bit, and the same log."""
    settings = ("train.steps=7", "train.accumulate=2", "data.0.validation.share=0.1")
    plan = plan_of(tmp_path, *settings)
    loop.fit(run_of(plan, tmp_path / "whole", root, cache))
    process = child(tmp_path, tmp_path / "parts", root, cache, "real", *settings)
    log = tmp_path / "parts" / "log.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (log.exists() and '"step": 3, "epoch"' in log.read_text()):
        assert process.poll() is None, "the child ended by itself"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = state_of(tmp_path / "parts")["step"]
    assert done in (2, 3)
    with log.open("a") as stream:
        stream.write('{"step": 9, "lo')  # what a kill can leave
    loop.fit(run_of(plan, tmp_path / "parts", root, cache))
    whole, parts = state_of(tmp_path / "whole"), state_of(tmp_path / "parts")
    assert whole["step"] == 7
    assert [key for key in whole if not same(whole[key], parts[key])] == []
    assert lines_of(tmp_path / "whole") == lines_of(tmp_path / "parts")
    frozen = [name for name in whole["network"] if name.startswith("color_trunk.stem.")]
    first = start.start_network(plan).state_dict()
    assert frozen
    assert all(torch.equal(first[name], whole["network"][name]) for name in frozen)
    moved = [name for name in first if not torch.equal(first[name], whole["network"][name])]
    assert len(moved) > len(first) / 2


@pytest.mark.usefixtures("tiny")
def test_every_stop_leads_to_the_same_weights(root: Path, cache: Path, tmp_path: Path, monkeypatch) -> None:
    """Stopped in the middle of any step, between checkpoints too."""
    plan = plan_of(tmp_path, "model.freeze=[]")
    loop.fit(run_of(plan, tmp_path / "whole", root, cache))
    taken = loop.take_step
    for stop in range(6):
        out = tmp_path / f"stop{stop}"

        def stopping(run, step, batches, stop=stop):
            losses = taken(run, step, batches)
            if step == stop:
                raise KeyboardInterrupt
            return losses

        monkeypatch.setattr(loop, "take_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            loop.fit(run_of(plan, out, root, cache))
        monkeypatch.setattr(loop, "take_step", taken)
        loop.fit(run_of(plan, out, root, cache))
        assert same(state_of(out), state_of(tmp_path / "whole"))


@pytest.mark.usefixtures("tiny")
def test_another_recipe_does_not_go_on_with_a_run(root: Path, cache: Path, tmp_path: Path) -> None:
    loop.fit(run_of(plan_of(tmp_path, "model.freeze=[]", "train.steps=1"), tmp_path / "out", root, cache))
    with pytest.raises(UsageError) as error:
        run_of(plan_of(tmp_path, "model.freeze=[]", "train.steps=1", "loss.plcc=0.7"), tmp_path / "out", root, cache)
    assert str(error.value) == (
        f"{tmp_path / 'out'} holds another run: loss.plcc was 0.1, now it is 0.7; choose another --out, or put the "
        "setting back to go on with that run"
    )
    (tmp_path / "out" / "checkpoint.pt").write_bytes(b"PK\3\4 cut short")
    with pytest.raises(UsageError, match=r"checkpoint\.pt: can't be read .*; delete it to start the run anew"):
        run_of(plan_of(tmp_path, "model.freeze=[]", "train.steps=1"), tmp_path / "out", root, cache)


@pytest.mark.usefixtures("tiny")
def test_it_learns(root: Path, cache: Path, tmp_path: Path) -> None:
    settings = ("model.freeze=[]", "train.steps=150", "train.batch=8", "train.rate=0.02", "train.rates={}")
    more = ("train.ema=0.9", "train.validate=75", "train.warmup=5", "ladders.pairs=0", "loss.ladder=0", "train.log=25")
    run = run_of(plan_of(tmp_path, *settings, *more), tmp_path / "out", root, cache)
    held = run.sets[0].held
    before = np.abs(predict(run.averaged, run.batches, held, run.device)[:, 0] - held.mos).mean()
    loop.fit(run)
    scores = predict(run.averaged, run.batches, held, run.device)
    assert np.abs(scores[:, 0] - held.mos).mean() < min(0.1, before / 1.5)
    after = srcc(scores[:, 0], held.mos)
    assert after > 0.9
    log = lines_of(tmp_path / "out")
    losses = [line["loss"] for line in log if "loss" in line]
    assert losses[-1] < losses[0] / 2
    validations = [line for line in log if "validation" in line]
    assert [line["step"] for line in validations] == [75, 150]
    assert validations[-1]["srcc"] == pytest.approx(after, abs=1e-6)
    error = np.abs(scores[:, 0] - held.mos).mean()
    assert error / 4 < scores[:, 1].mean() < 4 * error  # the spread is of the errors' size


def _losses(out: Path) -> list[float]:
    return [line["loss"] for line in lines_of(out) if "loss" in line]


def test_two_processes_train_as_one(root: Path, cache: Path, tmp_path: Path, monkeypatch) -> None:
    settings = ("model.freeze=[]", "train.workers=1", "train.flip=false")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    two = [
        child(tmp_path, tmp_path / "two", root, cache, "tiny", *settings, RANK=r, LOCAL_RANK=r, **place) for r in "01"
    ]
    monkeypatch.setattr(start, "build_network", lambda card: Tiny())
    loop.fit(run_of(plan_of(tmp_path, *settings), tmp_path / "one", root, cache))
    assert [process.wait(timeout=60) for process in two] == [0, 0]
    one, both = state_of(tmp_path / "one"), state_of(tmp_path / "two")
    assert _losses(tmp_path / "one") == pytest.approx(_losses(tmp_path / "two"), abs=1e-5)
    for name, value in one["network"].items():
        assert torch.allclose(value, both["network"][name], atol=1e-5), name


@pytest.mark.usefixtures("tiny")
def test_parts_of_a_batch_add_up_to_the_batch(root: Path, cache: Path, tmp_path: Path) -> None:
    """For losses that compare no pictures, accumulation is the whole batch."""
    settings = ("model.freeze=[]", "loss.plcc=0", "loss.ladder=0", "ladders.pairs=0")
    loop.fit(run_of(plan_of(tmp_path, *settings), tmp_path / "one", root, cache))
    loop.fit(run_of(plan_of(tmp_path, *settings, "train.accumulate=2"), tmp_path / "two", root, cache))
    assert _losses(tmp_path / "one") == pytest.approx(_losses(tmp_path / "two"), abs=1e-5)


@pytest.mark.usefixtures("tiny")
def test_each_set_has_its_own_scale(root: Path, cache: Path, tmp_path: Path) -> None:
    """The second set rates the same pictures on a tighter, higher scale; the network stays on the first one's."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "Images").symlink_to(root / "Images")
    rows = (root / "Train (Images and MOS).csv").read_text().splitlines()
    moved = [f"{name},{0.55 + 0.4 * float(mos):.4f}" for name, _, mos in (row.partition(",") for row in rows[1:])]
    (other / "Train (Images and MOS).csv").write_text("\n".join([rows[0], *moved]) + "\n")
    text = RECIPE + '\n[[data]]\ndataset = "biq2021"\nname = "tight"\n'
    settings = ("model.freeze=[]", "train.steps=250", "train.batch=16", "train.rate=0.03", "train.rates={}")
    more = ("loss.plcc=0", "loss.ladder=0", "ladders.pairs=0", "train.ema=0.9", "train.validate=250")
    plan = plan_of(tmp_path, *settings, *more, text=text)
    run = loop.prepare(
        plan, tmp_path / "out", torch.device("cpu"), roots={"biq2021": root, "tight": other}, cache=cache, keep=True
    )
    loop.fit(run)
    gains, offsets = run.scales.gains().tolist(), run.scales.offsets().tolist()
    assert (gains[0], offsets[0]) == (1, 0)
    assert gains[1] == pytest.approx(0.4, abs=0.15)
    assert offsets[1] == pytest.approx(0.55, abs=0.1)
    held = run.sets[0].held
    raw = predict(run.averaged, run.batches, held, run.device)[:, 0]
    assert np.abs(raw - held.mos).mean() < 0.1


@pytest.fixture(scope="module")
def finished(root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by the command line, to its card."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.toml").write_text(RECIPE)
    settings = ["train.steps=3", "train.select=best", "data.0.validation.share=0.8", 'card.summary="Small"']
    settings += ["card.half=true"]
    where = ["--data", f"biq2021={root}", "--out", str(folder / "run"), "--cache", str(cache), "--keep-pictures"]
    flags = [flag for setting in settings for flag in ("--set", setting)]
    assert main(["train", str(folder / "small.toml"), *where, *flags]) == 0
    return folder / "run" / "small.toml"


def test_half_weights_halve_the_file_and_are_what_was_judged(finished: Path) -> None:
    import onnx

    names = {name for name, p in build_network(read_card(finished)).named_parameters() if p.numel() >= 1024}
    tensors = {t.name: t.data_type for t in onnx.load(finished.with_suffix(".onnx")).graph.initializer}
    assert names <= tensors.keys()
    assert {tensors[name] for name in names} == {onnx.TensorProto.FLOAT16}
    assert finished.with_suffix(".onnx").stat().st_size < 2.2 * read_card(finished).network.parameters


def test_a_run_ends_in_a_card_that_scores(finished: Path, root: Path) -> None:
    card = read_card(finished)
    assert (card.arch, card.kind, card.summary, card.recipe.short_side) == ("dgiqa_mobile", "quality", "Small", 96)
    assert card.training.data.startswith("biq2021: 10 pictures, 40 others held out; the weights of step 3, of 3: the")
    assert card.training.command.startswith("dgiqa train small.toml --data biq2021=DIR --set train.steps=3 ")
    assert str(root) not in finished.read_text()
    assert card.network.parameters == sum(p.numel() for p in build_network(card).parameters())
    assert card.calibration.fitted_on == "biq2021, 40 pictures that were held out of training"
    assert card.interval is not None
    assert (card.measured[0].n, card.measured[0].dataset) == (40, "biq2021")
    rows = json.loads((finished.parent / "held_out.json").read_text())
    scorer = dgiqa.load(finished)
    for i in range(3):
        score = scorer.score(root / "Images" / rows["path"][i])
        assert score.raw == pytest.approx(rows["raw"][i], abs=BETWEEN_RUNTIMES)
        assert score.spread == pytest.approx(rows["spread"][i], abs=BETWEEN_RUNTIMES)
        assert score.low <= score.quality <= score.high
    # kept raw scores have six decimals: pictures that differ by less tie
    assert srcc(rows["raw"], rows["mos"]) == pytest.approx(card.measured[0].srcc, abs=2e-3)


def test_the_same_command_again_changes_nothing(finished: Path, root: Path, cache: Path, tmp_path: Path) -> None:
    """A run that is over is only exported anew; the best weights are those of its best validation."""
    lines = [line for line in lines_of(finished.parent) if "validation" in line]
    best = torch.load(finished.parent / "best.pt", weights_only=True)
    assert best["srcc"] == max(line["srcc"] for line in lines)
    assert {line["step"] for line in lines} == {3}
    run = run_of(
        plan_of(tmp_path, "train.steps=3", "train.select=best", "data.0.validation.share=0.8"),
        finished.parent,
        root,
        cache,
    )
    assert run.checkpoints.step == run.batches.total == 3
    assert list(run.batches.ahead(run.checkpoints.step)) == []


def test_published_weights_come_with_their_tables(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "dgiqa_mobile"
    folder.mkdir()
    text = finished.read_text().replace("small.onnx", "built_in.onnx")
    text = replace_table(text.replace('arch = "dgiqa_mobile"\n', ""), "calibration", Calibration())
    (folder / "built_in.toml").write_text(replace_table(text, "interval", None) + "\n[settings]\nhidden = 7\n")
    built_in = read_card(folder / "built_in.toml")
    sharing = dataclasses.replace(built_in, name="dgiqa_mobile.sharing")
    monkeypatch.setattr(f"{publish.__module__}.list_models", lambda: [built_in, sharing])
    done = publish(built_in, finished)
    assert done.startswith(f"{folder / 'built_in.onnx'}: ")
    assert done.endswith("calibration and figures anew: dgiqa_mobile.sharing")
    card, draft = read_card(folder / "built_in.toml"), read_card(finished)
    for table in ("network", "recipe", "settings", "calibration", "interval", "measured", "training"):
        assert getattr(card, table) == getattr(draft, table), table
    assert card.weights["onnx"].sha256 == draft.weights["onnx"].sha256
    assert (folder / "built_in.onnx").read_bytes() == finished.with_suffix(".onnx").read_bytes()
    with pytest.raises(UsageError, match=r"is of dgiqa_mobile, depth_mobile\.rendered of depth_mobile"):
        publish(find_card("depth_mobile.rendered"), finished)


def test_publishing_names_the_cards_whose_scores_change_with_it() -> None:
    for name in (DEFAULT, "dgiqa_mobile.quick", "dgiqa_mobile.thin", "ma_agiqa.mobile"):
        assert relying_on(find_card(name)) == ["dgiqa_mobile.ensemble"], name
    assert relying_on(find_card("loda.mobile")) == []
    assert set(relying_on(find_card("depth_mobile.rendered"))) >= {DEFAULT, "dgiqa_mobile.ensemble"}
    trunk = relying_on(find_card("trunks.mobilenet_v2"))  # by way of ma_agiqa.mobile, too
    assert set(trunk) >= {"ma_agiqa.mobile", "loda.mobile", "dgiqa_mobile.ensemble"}
    assert DEFAULT not in trunk


def test_what_can_not_be_published_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    garbage, other = tmp_path / "garbage.pt", tmp_path / "other.pt"
    garbage.write_bytes(b"nothing")
    torch.save({"x": torch.zeros(1)}, other)
    for file, message in ((garbage, "can't be read"), (other, "doesn't fit dgiqa_mobile.quick")):
        with pytest.raises(WeightsError, match=message):
            publish(find_card("dgiqa_mobile.quick"), file)
    with pytest.raises(UsageError, match="is a formula"):
        publish(find_card("natural_statistics.brisque"), other)


def test_the_command_line_says_what_is_wrong(root: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "small.toml").write_text(RECIPE)
    recipe, out = str(tmp_path / "small.toml"), str(tmp_path / "out")
    wrong = {
        ("--data", "biq2021"): "--data biq2021: not of the form NAME=DIR; such as --data biq2021=BIQ2021",
        ("--data", "biq2021=/no/such"): "--data biq2021=/no/such: there is no folder /no/such",
        ("--set", "train.epoch=1"): "small.toml: train: epoch: unknown key",
        (): "where is the data set biq2021?; say --data biq2021=FOLDER",
        ("--data", f"biq2021={root}", "--set", "model.freeze=[x]"): "model: freeze: expected a list, found '[x]'",
        ("--data", f"biq2021={root}", "--set", 'model.freeze=["x"]'): "no parameter's name starts with 'x'",
        ("--data", f"biq2021={root}", "--set", "train.rates={x=1}"): "no trained parameter's name starts with 'x'",
        ("--data", f"biq2021={root}", "--set", "model.initial=no.pth"): "no.pth: can't be read",
        ("--data", f"biq2021={root}", "--set", "model.trunks.x=a.pth"): "trunks.x: the network has no such part; its",
    }
    for flags, message in wrong.items():
        assert main(["train", recipe, "--out", out, *flags]) == 2
        error = capsys.readouterr().err
        assert message in error, error
        assert error.startswith("dgiqa: ")


def test_torch_is_asked_for(monkeypatch, capsys) -> None:
    monkeypatch.setattr("dgiqa.cli.train.find_spec", lambda name: None)
    assert main(["train", "x.toml", "--out", "y"]) == 2
    assert capsys.readouterr().err == (
        "dgiqa: training needs torch, which is not installed; pip install 'dgiqa[train]'\n"
    )


@pytest.mark.usefixtures("tiny")
def test_first_weights_come_from_a_file_or_a_part_of_one(root: Path, cache: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(5)
    given = Tiny().state_dict()
    save_file(given, tmp_path / "all.safetensors")
    torch.save({"state_dict": {k.removeprefix("color_trunk."): v for k, v in given.items()}}, tmp_path / "part.pth")
    plan = plan_of(tmp_path, "model.freeze=[]", f"model.initial={tmp_path / 'all.safetensors'}")
    assert same(dict(start.start_network(plan).state_dict()), dict(given))
    plan = plan_of(tmp_path, "model.freeze=[]", "model.trunks.color_trunk=part.pth")  # beside the recipe
    found, blank = start.start_network(plan).state_dict(), plan_of(tmp_path, "model.freeze=[]")
    assert torch.equal(found["color_trunk.weight"], given["color_trunk.weight"])
    assert torch.equal(found["head.weight"], start.start_network(blank).state_dict()["head.weight"])
    torch.save({"other": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth: 0 of the 6 tensors of Tiny are in it"):
        start.start_network(plan_of(tmp_path, "model.freeze=[]", f"model.initial={tmp_path / 'other.pth'}"))
    with pytest.raises(UsageError, match=r"dgiqa_mobile\.ensemble: is an ensemble of networks"):
        start.start_network(plan_of(tmp_path, "model.freeze=[]", "model.initial=dgiqa_mobile.ensemble"))


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path: Path) -> None:
    import pickle

    class Code:
        def __reduce__(self) -> tuple[object, ...]:
            return (print, ("run",))

    (tmp_path / "code.pth").write_bytes(pickle.dumps({"weight": Code()}))
    with pytest.raises(WeightsError, match=r"code\.pth: can't be read"):
        start.unpickle(tmp_path / "code.pth")


@pytest.fixture
def describing(tiny: None, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The tiny network offers statistics and a score from them; the list gets the rows that scale it."""
    seen: list[torch.Tensor] = []

    def statistics(self, color: torch.Tensor) -> torch.Tensor:
        x = color.permute(0, 3, 1, 2).float() / 255
        x = self.color_trunk(10 * (x[..., 1:] - x[..., :-1]).abs())
        return torch.cat([x.mean((2, 3)), x.square().mean((2, 3))], 1)

    def from_statistics(self, rows: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([rows, rows.new_zeros(len(rows), 2)], 1)).sigmoid()

    monkeypatch.setattr(Tiny, "statistics", statistics, raising=False)
    monkeypatch.setattr(Tiny, "probe", from_statistics, raising=False)
    monkeypatch.setattr(Tiny, "fit_statistics", lambda self, rows: seen.append(rows), raising=False)
    return seen


def test_networks_get_their_statistics_before_the_first_step(
    describing: list[torch.Tensor], root: Path, cache: Path, tmp_path: Path
) -> None:
    """Those that torch gives; computed once, and not again in a run that goes on."""
    plan = plan_of(tmp_path, "model.freeze=[]", "train.statistics=5", "train.steps=1")
    run = run_of(plan, tmp_path / "out", root, cache)
    paths = [run.batches.sets[0].paths[i] for i in (0, 9, 19, 29, 39)]
    colors = [torch.from_numpy(np.array(run.batches.pictures.see(path)[0]))[None] for path in paths]
    with torch.no_grad():
        wanted = torch.cat([run.network.statistics(color) for color in colors])
    assert len(describing) == 1
    torch.testing.assert_close(describing[0], wanted, atol=1e-5, rtol=1e-4)
    loop.fit(run)
    run_of(plan, tmp_path / "out", root, cache)
    assert len(describing) == 1


def test_a_head_start_trains_the_head_alone(
    describing: list[torch.Tensor], root: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It agrees with people before the first step; spoiled pictures join; what is not the head stays."""
    settings = ("model.freeze=[]", "train.steps=1", "probe.epochs=40", "probe.batch=8", "probe.rate=0.1")
    plan = plan_of(tmp_path, *settings, "probe.ladders=6", "probe.pairs=4")
    run = run_of(plan, tmp_path / "out", root, cache)
    fresh = start.start_network(plan).state_dict()
    moved = {name for name, value in run.network.state_dict().items() if not torch.equal(value, fresh[name])}
    assert moved == {"head.weight", "head.bias"}
    loop.fit(run)
    first, *_ = [line for line in lines_of(tmp_path / "out") if "validation" in line]
    assert first["step"] == 0
    assert first["srcc"] > 0.9

    def again(*_: object) -> None:
        raise AssertionError("a row was computed twice")

    monkeypatch.setattr("dgiqa.training.pictures.fit", again)
    same_rows = run_of(plan, tmp_path / "other", root, cache)
    assert torch.equal(same_rows.network.head.weight, run_of(plan, tmp_path / "third", root, cache).network.head.weight)


def test_a_head_start_can_be_all_there_is(
    describing: list[torch.Tensor], root: Path, cache: Path, tmp_path: Path
) -> None:
    plan = plan_of(tmp_path, "model.freeze=[]", "train.steps=0", "train.epochs=0", "probe.epochs=5", "probe.batch=8")
    run = run_of(plan, tmp_path / "out", root, cache)
    loop.fit(run)
    assert [line["step"] for line in lines_of(tmp_path / "out") if "validation" in line] == [0]
    assert state_of(tmp_path / "out")["step"] == 0
    assert torch.equal(state_of(tmp_path / "out")["averaged"]["head.weight"], run.network.head.weight)
    with pytest.raises(UsageError, match=r"train\.epochs = 0 trains nothing, unless probe\.epochs"):
        plan_of(tmp_path, "train.steps=0", "train.epochs=0")


def test_smaller_pictures_can_be_trained_on_than_are_scored(
    tiny: None, root: Path, cache: Path, tmp_path: Path
) -> None:
    """Steps see the one size, validation, verdict and card the other."""
    plan = plan_of(tmp_path, "model.freeze=[]", "train.short_side=64", "train.crop=0", "train.steps=2")
    run = run_of(plan, tmp_path / "out", root, cache)
    assert {group.color.shape[1:3] for group in run.batches.of_step(0)[0].groups} == {(64, 64)}
    held = run.sets[0].held
    assert {group.color.shape[1:3] for group in show(held, run.batches)} == {(96, 96)}
    same = run_of(plan_of(tmp_path, "model.freeze=[]", "train.crop=0", "train.steps=2"), tmp_path / "same", root, cache)
    assert np.array_equal(
        predict(run.network, run.batches, held, run.device), predict(run.network, same.batches, held, run.device)
    )
    card = read_card(loop.train(plan, tmp_path / "card", roots={"biq2021": root}, cache=cache))
    assert card.recipe.short_side == 96


def test_a_target_knows_nothing_of_its_own_mark(
    describing: list[torch.Tensor], root: Path, cache: Path, tmp_path: Path
) -> None:
    """Turning one picture's mark over changes what is said of others, not of itself; and a run takes the file."""
    plan = plan_of(tmp_path, "model.freeze=[]", "probe.epochs=20", "probe.batch=8", "probe.rate=0.1")
    run = run_of(plan, tmp_path / "out", root, cache)
    rated = run.sets[0].fitted
    rows = statistics_of([(path, None) for path in rated.paths], run.network, run.batches, run.device)
    wanted = teacher.out_of_fold(run.network, plan, rated, rows, 4)
    assert srcc(wanted, rated.mos) > 0.8
    turned = dataclasses.replace(rated, mos=np.where(np.arange(len(rated)) == 7, 1 - rated.mos, rated.mos))
    found = teacher.out_of_fold(run.network, plan, turned, rows, 4)
    assert found[7] == wanted[7]
    assert (found != wanted).sum() > len(rated) // 2
    file, recipe = tmp_path / "targets.csv", tmp_path / "small.toml"
    teacher.main(
        [str(recipe), "--data", f"biq2021={root}", "--out", str(file), "--folds", "4", "--set", "probe.epochs=1"]
    )
    taught = plan_of(tmp_path, f'data.0.targets="{file}"', "loss.distil=5")
    one = read_sets(taught, {"biq2021": root})[0].fitted.targets
    assert np.isfinite(one).all()
    call, mean = [str(recipe), "--data", f"biq2021={root}", "--folds", "4"], tmp_path / "mean.csv"
    other = ["--set", "probe.epochs=20", "--set", "probe.rate=0.1", "--set", "probe.batch=8", "--out"]
    teacher.main([*call, *other, str(tmp_path / "two.csv")])
    teacher.main([*call, *other, str(mean), "--beside", str(file)])
    two, both = (
        read_sets(plan_of(tmp_path, f'data.0.targets="{path}"', "loss.distil=5"), {"biq2021": root})[0].fitted.targets
        for path in (tmp_path / "two.csv", mean)
    )
    assert both == pytest.approx((one + two) / 2, abs=2e-5)
    assert not np.allclose(one, two, atol=1e-3)
    with pytest.raises(UsageError, match=r"nowhere\.csv"):
        teacher.main([*call, *other, str(mean), "--beside", str(tmp_path / "nowhere.csv")])


def test_what_is_held_out_can_be_calibrated_on(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_of(tmp_path)
    (parts,) = read_sets(plan, {"biq2021": root})
    out, call = tmp_path / "held.csv", [str(tmp_path / "small.toml"), "--data", f"biq2021={root}"]
    held_out.main([*call, "--out", str(out)])
    assert capsys.readouterr().out == f"{out}: {len(parts.held)} pictures\n"
    found = read_split(str(out), "all", tmp_path)
    assert [path.name for path in found.paths] == [path.name for path in parts.held.paths]
    assert found.mos == pytest.approx(parts.held.mos, abs=1e-6)
    assert not {path.name for path in found.paths} & {path.name for path in parts.fitted.paths}
    assert all(path.is_file() for path in found.paths)
    again = tmp_path / "again.csv"  # a teacher's scores that aren't there aren't asked for
    teaching = ["--set", "data.0.targets=nowhere.csv", "--set", "loss.distil=5"]
    held_out.main([*call, *teaching, "--out", str(again)])
    assert again.read_text() == out.read_text()
    nowhere = str(tmp_path / "nowhere" / "held.csv")
    for words, told in (
        ([call[0], "--out", str(out)], "where is the data set biq2021?; say --data biq2021=FOLDER"),
        ([*call, "--out", nowhere], f"[Errno 2] No such file or directory: {nowhere!r}"),
    ):
        command = [sys.executable, "-m", "dgiqa.training.held_out", *words]
        misused = subprocess.run(command, check=False, capture_output=True, text=True)
        assert (misused.returncode, misused.stderr) == (2, f"dgiqa: {told}\n")


def test_a_head_start_wants_a_network_that_offers_it(root: Path, cache: Path, tmp_path: Path, tiny: None) -> None:
    plan = plan_of(tmp_path, "model.freeze=[]", "probe.epochs=1")
    with pytest.raises(UsageError, match=r"^probe: the network of dgiqa_mobile offers none"):
        run_of(plan, tmp_path / "out", root, cache)


def test_rates_go_by_part_and_by_layer() -> None:
    network = Tiny()
    plan = Train(rate=1e-3, rates={"color": 1e-4, "color_trunk.bias": 0.0}, layer_decay=0.5)
    optimiser = make_optimiser(network, Scales(2), plan)
    names = {id(p): name for name, p in network.named_parameters()}
    rates = {names.get(id(p), "scales"): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    assert rates == pytest.approx(
        {
            "color_trunk.weight": 5e-5,
            "color_trunk.bias": 0.0,
            "depth_trunk.weight": 5e-4,
            "depth_trunk.bias": 5e-4,
            "head.weight": 1e-3,
            "head.bias": 1e-3,
            "scales": 1e-3,
        }
    )
    decayed = {names[id(p)] for group in optimiser.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {"color_trunk.weight", "depth_trunk.weight", "head.weight"}


def test_the_rate_rises_and_falls_as_a_cosine() -> None:
    plan = Train(rate=1.0, warmup=10, floor=0.1)
    optimiser = make_optimiser(Tiny(), Scales(1), plan)
    shares = [set_rate(optimiser, step, 110, plan) for step in range(110)]
    assert shares[:3] == pytest.approx([1 / 11, 2 / 11, 3 / 11])
    assert shares[10] == 1
    assert shares[60] == pytest.approx(0.55)  # half way down
    assert 0.1 < shares[109] < 0.101
    assert np.argmax(shares) == 10
    assert all(group["lr"] == shares[109] * group["peak"] for group in optimiser.param_groups)


def test_the_average_follows_the_weights() -> None:
    network, averaged = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    with torch.no_grad():
        network.weight.fill_(3.0)
        network.num_batches_tracked.fill_(7)
    move_average(averaged, network, 0.75, step=10_000)
    assert averaged.weight.tolist() == [1.5, 1.5]
    assert averaged.num_batches_tracked.item() == 7
    move_average(averaged, network, 0.0, step=0)
    assert averaged.weight.tolist() == [3, 3]


def test_frozen_batch_norm_stays_still() -> None:
    network = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2))
    network[0].requires_grad_(False)
    set_training(network)
    network(torch.randn(8, 2) + 5)
    assert network[0].running_mean.tolist() == [0, 0]
    assert network[1].running_mean.abs().sum() > 0


def test_a_broken_picture_is_named(root: Path, tmp_path: Path, capsys) -> None:
    broken = write_set(tmp_path / "set", 6)
    for path in (broken / "Images").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    (tmp_path / "small.toml").write_text(RECIPE)
    assert (
        main(["train", str(tmp_path / "small.toml"), "--out", str(tmp_path / "o"), "--data", f"biq2021={broken}"]) == 2
    )
    assert "a picture of the data can't be read: " in capsys.readouterr().err


def test_depth_loss_ignores_scale_and_shift() -> None:
    generator = torch.Generator().manual_seed(0)
    wanted = torch.rand((2, 16, 16), generator=generator)
    assert invariant_loss(3 * wanted + 5, wanted).item() == pytest.approx(0, abs=1e-5)
    assert invariant_loss(-wanted, wanted).item() > 1


def test_an_export_that_differs_is_refused(tmp_path: Path, monkeypatch) -> None:
    import onnx

    card = find_card("depth_mobile.rendered")
    out = tmp_path / "network.onnx"
    assert export(build_network(card), card, out) <= 1e-4
    content = out.read_bytes()
    assert b".py" not in content  # the exporter's notes would name files of the machine
    monkeypatch.setattr("dgiqa.export.onnx._difference", lambda *_: 0.01)
    monkeypatch.setattr("dgiqa.export.onnx.trace", lambda *_, **options: onnx.load_from_string(content))  # again: slow
    with pytest.raises(WeightsError, match=r"differs from torch by 0.01, over the 0.0001 allowed"):
        export(build_network(card), card, out)
    assert out.read_bytes() == content
    assert list(tmp_path.iterdir()) == [out]


@pytest.fixture
def going_on(tiny: None, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The tiny network can go on from a first stage, its edges in cells of 32 pixels; the list counts what it did."""
    seen: list[int] = []

    def first(self, color: torch.Tensor, stages: int) -> torch.Tensor:
        if stages > 1:
            raise IndexError(stages)
        x = color.permute(0, 3, 1, 2).float() / 255
        edges = self.color_trunk(10 * (x[..., 1:] - x[..., :-1]).abs())
        return torch.nn.functional.avg_pool2d(edges.square(), 16).half()

    def forward(self, color: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        known = color if color.dtype == torch.float16 else self.first(color, 1)
        seen.append(int(known is color))
        x = known.float().mean((2, 3))
        rest = x.new_zeros(len(x), 14 - x.shape[1])
        return self.head(torch.cat([x, rest], 1)).sigmoid()

    monkeypatch.setattr(Tiny, "first", first, raising=False)
    monkeypatch.setattr(Tiny, "frozen_for", staticmethod(lambda stages: ["color_trunk."]), raising=False)
    monkeypatch.setattr(Tiny, "forward", forward)
    return seen


def test_first_stages_are_computed_once_and_stay(
    going_on: list[int], root: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """The rest learns from what is kept, by cells; a second run computes nothing; the verdict is on pixels."""
    settings = ("model.kept=1", "train.flip=false", "train.rates={}", "train.steps=40", "train.rate=0.1")
    plan = plan_of(tmp_path, "model.freeze=[]", *settings)
    card = loop.train(plan, tmp_path / "out", roots={"biq2021": root}, cache=tmp_path / "cache")
    assert card.exists()
    assert "model.kept = 1: nothing gives these stages weights" in capsys.readouterr().err
    assert max(line["srcc"] for line in lines_of(tmp_path / "out") if "validation" in line) > 0.9
    fresh, trained = start.start_network(plan).state_dict(), state_of(tmp_path / "out")["network"]
    moved = {name for name, value in trained.items() if not torch.equal(value, fresh[name])}
    assert moved == {"head.weight", "head.bias"}
    kept = list((tmp_path / "cache" / "first").rglob("*.npy"))
    assert {np.load(file).dtype for file in kept} == {np.dtype(np.float16)}
    assert not all(going_on)  # the last validation, and the export

    def again(*_: object) -> None:
        raise AssertionError("a picture was looked at twice")

    monkeypatch.setattr("dgiqa.training.pictures.decode", again)
    loop.fit(run_of(plan, tmp_path / "other", root, tmp_path / "cache"))
    other = state_of(tmp_path / "other")["network"]
    assert all(torch.equal(other[name], value) for name, value in trained.items())


def test_kept_stages_that_make_no_sense(going_on: list[int], root: Path, cache: Path, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "model.freeze=[]", "model.kept=2", "train.flip=false")
    with pytest.raises(UsageError, match=r"^model\.kept = 2: the network has fewer stages"):
        run_of(plan, tmp_path / "out", root, cache)
    with pytest.raises(UsageError, match=r"train\.flip = false, and crops by cells"):
        plan_of(tmp_path, "model.kept=1")
    with pytest.raises(UsageError, match=r"model\.kept must not be negative"):
        plan_of(tmp_path, "model.kept=-1")
    with pytest.raises(UsageError, match=r"model\.kept goes with ladders that come again"):
        plan_of(tmp_path, "model.kept=1", "train.flip=false", "ladders.pool=0")


def test_networks_without_stages_keep_none(tiny: None, root: Path, cache: Path, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "model.freeze=[]", "model.kept=1", "train.flip=false")
    with pytest.raises(UsageError, match=r"^model\.kept: the network of dgiqa_mobile offers none"):
        run_of(plan, tmp_path / "out", root, cache)


@pytest.fixture(scope="module")
def mobile_plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return plan_of(tmp_path_factory.mktemp("plan"), "model.kept=4", "train.flip=false")


def test_a_look_leaves_the_network_as_it_is_and_agrees_with_it(mobile_plan: Plan) -> None:
    """Batch norm too; statistics of what is kept are those of the picture, up to 16 bits."""
    network = start.start_network(mobile_plan)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first = looks.look_first(network, mobile_plan, torch.device("cpu"))
    assert first is not None
    whole, rest = (looks.look_statistics(network, mobile_plan, seen, torch.device("cpu")) for seen in (None, first))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    picture = np.random.default_rng(0).integers(0, 256, (96, 160, 3), np.uint8)
    known = first.see(picture)
    assert known.dtype == np.float16
    np.testing.assert_allclose(rest.see(known), whole.see(picture), atol=5e-4, rtol=2e-3)
    with torch.no_grad():
        wanted = network.first(torch.from_numpy(picture)[None], 4)[0]
    np.testing.assert_allclose(known.astype(np.float32), wanted.float().numpy(), atol=2e-3, rtol=2e-3)
    with pytest.raises(WeightsError, match="numbers that float16 can't hold"):
        looks._finite(np.array([np.inf], np.float16))


def test_keys_change_with_the_weights_that_matter(mobile_plan: Plan) -> None:
    network = start.start_network(mobile_plan)
    keys = [looks.key_of(network, 4), looks.key_of(network, 5), looks.key_of(network)]
    with torch.no_grad():
        network.color_trunk.stages[4][0].layers[0].conv.weight.add_(1)
    assert looks.key_of(network, 4) == keys[0]
    assert looks.key_of(network, 5) != keys[1]
    assert looks.key_of(network) != keys[2]
    with torch.no_grad():
        network.color_trunk.stem.norm.running_mean.add_(1)
    assert looks.key_of(network, 4) != keys[0]


def test_keys_change_with_settings_that_change_what_is_kept(mobile_plan: Plan, tmp_path: Path, monkeypatch) -> None:
    """Runs with several settings share a cache; those whose first stages say the same share them."""
    monkeypatch.setattr(looks, "trace", lambda *_, **sides: SimpleNamespace(SerializeToString=bytes))  # slow
    monkeypatch.setattr(looks, "open_file", lambda file: None)

    def keys(*settings: str) -> tuple[str, str]:
        plan = plan_of(tmp_path, "model.kept=4", "train.flip=false", *settings)
        network, device = start.start_network(plan), torch.device("cpu")
        first = looks.look_first(network, plan, device)
        return first.key, looks.look_statistics(network, plan, None, device).key

    plain, alone, pixels = keys(), keys("model.settings.asks=alone"), keys("model.settings.pixels=2.0")
    assert alone == plain
    assert pixels[0] != plain[0]
    assert pixels[1] != plain[1]


def test_a_run_that_goes_on_keeps_what_its_own_first_stages_say(
    going_on: list[int], root: Path, cache: Path, tmp_path: Path
) -> None:
    """Even where a fresh start would begin from other weights."""
    settings = ("model.freeze=[]", "model.kept=1", "train.flip=false", "train.rates={}")
    plan = plan_of(tmp_path, *settings)
    run = run_of(plan, tmp_path / "out", root, cache)
    loop.fit(run)
    file = tmp_path / "out" / "checkpoint.pt"
    state = torch.load(file, weights_only=True)
    state["network"]["color_trunk.weight"] += 1
    torch.save(state, file)
    again = run_of(plan, tmp_path / "out", root, cache)
    assert again.batches.pictures.first is not None
    assert again.batches.pictures.first.key.startswith(f"1-{looks.key_of(again.network, 1)}-")
    assert again.batches.pictures.first.key != run.batches.pictures.first.key  # type: ignore[union-attr]
