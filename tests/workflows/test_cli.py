"""`geco` as a user meets it: help, exit codes, remedies instead of tracebacks, resume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workflows import cli

VERBS = (
    "plan", "generate", "distill", "status", "retry", "verify", "repair", "report",
    "export", "evaluate", "convert", "train-micro", "doctor",
)  # fmt: skip
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    ids = [f"i{k}" for k in range(20)] + ["i0"]
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"id": ids, "prompt": ids}), path)
    return path


def geco(*words: object) -> int:
    return cli.main([str(word) for word in words])


def generate(manifest: Path, *words: object) -> int:
    out = manifest.parent / "run"
    common = ("--system", "noop", "--engine", "inline", "--manifest", manifest, "--out", out)
    return geco("generate", *common, "thumbnail_size=0", *words)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_fits_one_screen_with_an_example(verb: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        geco(verb, "--help")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert f"example: geco {verb} " in text
    assert_fits(text)


def assert_fits(text: str) -> None:
    lines = text.splitlines()
    assert len(lines) <= 24, text
    assert max(map(len, lines)) <= 100, text


def test_help_of_the_program_fits_and_names_every_verb(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        geco("--help")
    text = capsys.readouterr().out
    assert_fits(text)
    assert "example: geco generate" in text
    assert all(f"\n    {verb}  " in text for verb in VERBS)


@pytest.mark.parametrize("words", [["--help"], ["status", "nowhere"], ["verify", "--help"]])
def test_light_commands_load_neither_torch_nor_ray(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from workflows import cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'torch', 'ray', 'boto3', 'trimesh'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_generate_then_again_then_status(manifest: Path, capsys: Capture) -> None:
    assert generate(manifest, "shard_size=8") == cli.OK
    assert (
        "21 of 21 items: 20 done, 0 failed, 1 skipped (duplicate_id 1)" in capsys.readouterr().out
    )
    assert generate(manifest, "shard_size=8") == cli.OK
    assert "made now" not in capsys.readouterr().out
    assert geco("status", manifest.parent / "run") == cli.OK
    text = capsys.readouterr().out
    assert "complete" in text
    assert "1 skipped" in text
    assert geco("status", manifest.parent / "run", "--json") == cli.OK
    assert json.loads(capsys.readouterr().out)["counts"] == {"done": 20, "skipped": 1}


def test_overrides_may_stand_anywhere(manifest: Path) -> None:
    common = ("--manifest", manifest, "--out", manifest.parent / "run")
    code = geco(
        "generate", "seed=3", "--system", "noop", "shard_size=8", *common, "engine=inline",
        "model.batch_size=2", "thumbnail_size=0",
    )  # fmt: skip
    assert code == cli.OK
    record = json.loads((manifest.parent / "run/run.json").read_text())
    assert record["config"]["seed"] == 3
    assert record["system"]["config"]["batch_size"] == 2


def test_a_yaml_file_is_overridden_by_flags(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("system: noop\nseed: 5\nshard_size: 4\nthumbnail_size: 0\n")
    assert generate(manifest, "--config", tmp_path / "run.yaml", "seed=6") == cli.OK
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert (record["config"]["seed"], record["config"]["shard_size"]) == (6, 4)


def test_failures_over_the_limit_are_exit_code_one(manifest: Path, capsys: Capture) -> None:
    faults = ["model.faults.i3=generate", "model.faults.i4=empty"]
    assert generate(manifest, *faults) == cli.OVER_LIMIT
    text = capsys.readouterr().out
    assert "18 done, 2 failed" in text
    assert "generation_failed 1" in text
    assert "more failures than accepted: 0.1 of the items that were tried" in text
    assert generate(manifest, *faults, "max_failure_rate=0.1") == cli.OK
    assert "more failures" not in capsys.readouterr().out


def test_a_missing_run_is_all_that_is_asked_for(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        geco("verify")
    assert caught.value.code == cli.REFUSED
    assert capsys.readouterr().err.endswith("arguments are required: RUN\n")


@pytest.mark.parametrize("verb", ["plan", "generate"])
def test_a_run_inside_its_manifest_is_refused(tmp_path: Path, capsys: Capture, verb: str) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    words = ("--manifest", tmp_path, "--out", tmp_path / "run", "--system", "noop")
    assert geco(verb, *words, "engine=inline") == cli.REFUSED
    assert "lies inside the manifest folder" in capsys.readouterr().err


def test_a_manifest_on_the_web_is_refused_without_its_signature(capsys: Capture) -> None:
    url = "https://me:hidden@host/x.csv?X-Amz-Signature=hidden"
    assert geco("plan", "--manifest", url, "--system", "noop") == cli.REFUSED
    text = capsys.readouterr().err
    assert "https://" in text
    assert "hidden" not in text


def test_a_run_full_of_failures_stops_early(tmp_path: Path, capsys: Capture) -> None:
    ids = [f"i{k}" for k in range(400)]
    pq.write_table(pa.table({"id": ids, "prompt": ids}), tmp_path / "m.parquet")
    faults = [f"model.faults.i{k}=bad_item" for k in range(30)]
    assert generate(tmp_path / "m.parquet", "shard_size=10", *faults) == cli.OVER_LIMIT
    text = capsys.readouterr().out
    assert "stopped early: 20 of 20 items failed (corrupt_image 20)" in text
    assert "20 of 400 items" in text
    assert "the same command resumes" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sead=3"], "did you mean 'seed'?"),
        (["model.batch_sice=3"], "did you mean 'batch_size'?"),
        (["model.faults.i1=explode"], "none of prepare"),
        (["--system", "instantmash"], "did you mean 'instantmesh'?"),
        (["--manifest", "nowhere.parquet"], "there is no manifest nowhere.parquet"),
        (["columns.image=pic"], "no column 'pic'"),
        (["shard_size=0"], "shard_size must be positive"),
        (["max_failure_rate=2"], "within 0 and 1"),
        (["--preset", "huge"], "no preset noop-huge"),
    ],
)
def test_refusals_are_exit_code_two_with_a_remedy(
    manifest: Path, words: list[str], message: str, capsys: Capture
) -> None:
    assert generate(manifest, *words) == cli.REFUSED
    text = capsys.readouterr().err
    assert message in text
    assert "Traceback" not in text
    assert not (manifest.parent / "run" / "run.json").exists()


def test_a_changed_configuration_is_refused_with_the_difference(
    manifest: Path, capsys: Capture
) -> None:
    assert generate(manifest) == cli.OK
    assert generate(manifest, "seed=1") == cli.REFUSED
    assert "config.seed: 0 -> 1" in capsys.readouterr().err
    assert generate(manifest, "model.generate_s=0.1") == cli.REFUSED


def test_fatal_errors_are_exit_code_three_and_lose_nothing(manifest: Path, capsys: Capture) -> None:
    faults = "model.faults.i9=fatal"
    assert generate(manifest, "shard_size=4", faults) == cli.STOPPED
    assert "remedy: remove the fault" in capsys.readouterr().err
    assert geco("status", manifest.parent / "run") == cli.OK
    assert "8 of 21" in capsys.readouterr().out


def test_usage_errors_are_exit_code_two(capsys: Capture) -> None:
    for words in (["genrate"], ["generate", "--nope"], ["status", "x", "y"], []):
        with pytest.raises(SystemExit) as ended:
            geco(*words)
        assert ended.value.code == cli.REFUSED
    assert "did you mean 'generate'?" in capsys.readouterr().err


def test_plan_makes_nothing_and_names_the_source_of_its_rate(
    manifest: Path, capsys: Capture
) -> None:
    words = ("--system", "noop", "--manifest", manifest, "--out", manifest.parent / "run")
    assert geco("plan", *words, "shard_size=8") == cli.OK
    text = capsys.readouterr().out
    assert "items       21, of which 1 duplicate will be skipped" in text
    assert "shards      3 " in text
    assert "unknown" in text
    assert not (manifest.parent / "run").exists()
    assert geco("plan", *words, "--seconds-per-item", "3600") == cli.OK
    assert "20 device-hours for the 20 items left" in capsys.readouterr().out
    assert generate(manifest, "model.generate_s=0.01") == cli.OK
    capsys.readouterr()
    assert geco("plan", *words, "thumbnail_size=0", "model.generate_s=0.01") == cli.OK
    assert "measured over 20 items of this run folder" in capsys.readouterr().out
    assert geco("plan", *words, "seed=1") == cli.REFUSED  # as generate would
    assert "config.seed: 0 -> 1" in capsys.readouterr().err


def test_status_of_nothing_is_refused(tmp_path: Path, capsys: Capture) -> None:
    assert geco("status", tmp_path) == cli.REFUSED
    assert "there is no run" in capsys.readouterr().err


def test_doctor_finds_this_machine_usable(tmp_path: Path, capsys: Capture) -> None:
    assert geco("doctor", "--out", tmp_path / "runs") == cli.OK
    text = capsys.readouterr().out
    assert "FAIL" not in text
    assert "create-if-absent work" in text
    assert list(tmp_path.iterdir()) == []


def test_unexpected_errors_show_no_traceback_without_debug(
    manifest: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("workflows.generate.generate", explode)
    assert generate(manifest) == cli.STOPPED
    text = capsys.readouterr().err
    assert "ZeroDivisionError: a bug" in text
    assert "Traceback" not in text
    assert generate(manifest, "--debug") == cli.STOPPED
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_says_that_nothing_is_lost(
    manifest: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("workflows.generate.generate", interrupt)
    assert generate(manifest) == cli.INTERRUPTED
    assert "resumes" in capsys.readouterr().err


@pytest.mark.parametrize(("signum", "code"), [(2, 130), (15, 143)])
def test_the_second_signal_ends_with_the_code_of_the_signal(
    manifest: Path, signum: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workflows.drain import Interrupted

    def interrupt(*_: object) -> None:
        raise Interrupted(signum)

    monkeypatch.setattr("workflows.generate.generate", interrupt)
    assert generate(manifest) == code


def test_max_failure_rate_is_a_flag(manifest: Path) -> None:
    fault = "model.faults.i3=generate"
    assert generate(manifest, fault, "--max-failure-rate", "0.01") == cli.OVER_LIMIT
    assert generate(manifest, fault, "--max-failure-rate", "0.1") == cli.OK


def test_verbs_that_read_a_run_take_store_settings_only(manifest: Path, capsys: Capture) -> None:
    assert generate(manifest) == cli.OK
    run = manifest.parent / "run"
    for verb in ("status", "verify", "repair"):
        assert geco(verb, run, "s3.endpoint_url=http://localhost:1") == cli.OK
        assert geco(verb, run, "seed=3") == cli.REFUSED
        assert "'seed' is no setting of geco" in capsys.readouterr().err
        assert geco(verb, run, "s3.endpoint=x") == cli.REFUSED
        assert "did you mean 'endpoint_url'?" in capsys.readouterr().err


def test_csv_runs_resume_from_the_normalised_rows(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("id,prompt\na,x\nb,y\n")
    assert generate(tmp_path / "m.csv", "shard_size=1") == cli.OK
    (tmp_path / "run/done/000001.json").unlink()
    assert generate(tmp_path / "m.csv", "shard_size=1") == cli.OK
    assert (tmp_path / "run/done/000001.json").exists()


def test_weights_that_changed_between_commands_stop_the_resume(
    manifest: Path, capsys: Capture
) -> None:
    assert generate(manifest) == cli.OK
    run = manifest.parent / "run"
    (run / "done/000000.json").unlink()
    record = (run / "system.json").read_text()
    (run / "system.json").write_text(
        record.replace('"weights_digest": ""', '"weights_digest": "x"')
    )
    assert generate(manifest) == cli.STOPPED
    assert "weights_digest: 'x' -> ''" in capsys.readouterr().err
