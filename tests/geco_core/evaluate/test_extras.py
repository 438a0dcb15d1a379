"""Extras are checked all at once, before anything is loaded."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from geco_core.errors import ConfigError
from geco_core.evaluate.extras import EXTRAS, check_extras, load_extras
from tests.geco_core.evaluate.test_lpips import with_weights, write_files


def test_no_names_need_nothing(tmp_path: Path) -> None:
    extras = load_extras((), tmp_path)
    assert (extras.pairs, extras.fid) == ({}, None)


def test_one_refusal_names_everything_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        check_extras(EXTRAS, tmp_path)
    error = caught.value
    for name in ("vgg16-397923af.pth", "lpips-vgg.pth", "alexnet-owt-7be5be79.pth",
                 "lpips-alex.pth", "pt_inception-2015-12-05-6726825d.pth",
                 "clip-vit-large-patch14/model.safetensors"):  # fmt: skip
        assert name in error.message
    assert error.remedy.count("curl ") == 5
    assert error.remedy.count("hf download ") == 1
    assert "--metric-weights" in error.remedy


def test_unknown_names_are_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_extras(["lpip"], tmp_path)
    assert "lpips" in caught.value.remedy


def test_what_is_there_is_loaded(tmp_path: Path) -> None:
    write_files(tmp_path, with_weights("alex"), "alex", ".safetensors")
    assert list(load_extras(["lpips-alex"], tmp_path).pairs) == ["lpips_alex"]
    assert "torchvision" not in sys.modules
