import hashlib
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
import soxr
from click.testing import CliRunner

from adding_worlds import hearing_run, tagged
from undersong import runs
from undersong.audio import extract as extraction, file, installation
from undersong.audio.decode import Decoder, decode
from undersong.audio.ears import Contract, choose_ears, cut_pieces, installed
from undersong.audio.extract import extract
from undersong.audio.installation import install_ears, remove_ears
from undersong.audio.logmel import Mel, Undecodable, mel_power
from undersong.catalogue import (
    EXTRACTED,
    Heard,
    describe_catalogue,
    fingerprint,
    read_catalogue,
    read_heard,
    write_catalogue,
    write_heard,
)
from undersong.catalogue.tables import Catalogue
from undersong.cli.main import cli
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError, DataError, Unavailable, UndersongError
from undersong.foldin.add import add_entries
from undersong.foldin.embed import embed_file
from undersong.foldin.encoders import ears_of, open_encoders
from undersong.model import Model
from undersong.pipeline.inference import embed_catalogue
from undersong.pipeline.run_settings import read_settings
from undersong.pipeline.train import train_run
from undersong.report.contents import collect

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

RATE, SECONDS, WIDTH, WORDS = 8_000, 0.5, 7, ("loud", "low", "long")
SAMPLES = 4_000


def written(folder, *, tracks=("t0", "t1", "t2")):
    artists = pl.DataFrame({"id": ["a"], "name": ["A"]})
    rows = {"id": list(tracks), "artist": ["a"] * len(tracks), "title": [None] * len(tracks)}
    write_catalogue(Catalogue(artists, pl.DataFrame(rows, schema_overrides={"title": str})), folder)
    return folder


def heard(ids, *, name="tiny", sha256="f00d", seed=0):
    vectors = np.random.default_rng(seed).normal(size=(len(ids), 5)).astype(np.float32)
    return Heard(name, sha256, "ISC", "songs of ours", Embeddings(tuple(ids), vectors))


def test_what_was_heard_is_a_source_beside_the_features_and_no_part_of_the_tables(tmp_path):
    folder = written(tmp_path / "catalogue")
    before = fingerprint(folder)
    ear = heard(["t2", "gone", "t0"])
    write_heard(folder / EXTRACTED, [ear])
    assert fingerprint(folder) != before
    catalogue = read_catalogue(folder)
    assert [x.about for x in catalogue.heard] == [ear.about]
    source = catalogue.vectors()["tiny", "track"]
    assert source.ids == ("t2", "t0")
    np.testing.assert_array_equal(source.vectors, ear.vectors.vectors[[0, 2]])
    (of_tracks,) = (x for x in describe_catalogue(catalogue).kinds if x.kind == "track")
    assert {x.source: x.items for x in of_tracks.coverage}["tiny"] == 2
    write_catalogue(catalogue, folder)
    assert not read_catalogue(folder).features
    write_heard(folder / EXTRACTED, [])
    assert not read_catalogue(folder).heard
    assert fingerprint(folder) == before


def test_vectors_that_were_changed_are_refused_and_those_of_before_a_crash_stay(tmp_path):
    folder = written(tmp_path / "catalogue")
    write_heard(folder / EXTRACTED, [heard(["t1"])])
    (file,) = (folder / EXTRACTED / "ears").glob("*.parquet")
    new = heard(["t1"], seed=7)
    new.vectors.write(file.with_name("tiny.half.track.parquet"))  # killed before ears.json
    assert read_catalogue(folder).heard[0].vectors.ids == ("t1",)
    new.vectors.write(file)
    with pytest.raises(ArtifactError, match="was changed since.*run `undersong extract`"):
        read_catalogue(folder)
    write_heard(folder / EXTRACTED, [new])
    assert len(list((folder / EXTRACTED / "ears").glob("*.parquet"))) == 1


# ears that hear


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty folder of ears."""
    monkeypatch.setenv("UNDERSONG_EARS", str(tmp_path / "ears"))
    return tmp_path / "ears"


def matrix(columns, *, seed=0):
    values = np.random.default_rng(seed).normal(size=(SAMPLES, columns)) / 9
    return values.astype(np.float32)


def tiny(path, nodes=None, *, width=WIDTH, words=WORDS, weights=(), seed=0, **changes):
    """Write ears that multiply a waveform by a matrix, or do what ``nodes`` say."""
    from onnx import TensorProto, helper, numpy_helper

    made = nodes or [
        helper.make_node("MatMul", ["wave", "a"], ["vector"]),
        helper.make_node("MatMul", ["wave", "b"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["tags"]),
    ]
    tensors = [
        numpy_helper.from_array(matrix(WIDTH, seed=seed), "a"),
        numpy_helper.from_array(matrix(len(WORDS), seed=1), "b"),
        *weights,
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        made,
        "tiny",
        [value("wave", TensorProto.FLOAT, ["n", SAMPLES])],
        [value(x, TensorProto.FLOAT, None) for x in ("vector", *(["tags"] if words else []))],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    network = path.with_suffix(".onnx")
    network.write_bytes(model.SerializeToString())
    return contract(path, network.read_bytes(), width=width, words=words, **changes)


def contract(path, network, **changes):
    about = {"name": "tiny", "licence": "CC0", "training": "nothing", "rate": RATE}
    about |= {"seconds": SECONDS, "pieces": 2, "output": "vector", "tags": "tags"}
    about |= {"sha256": hashlib.sha256(network).hexdigest()} | changes
    lines = (f"{key} = {list(x) if isinstance(x, tuple) else x!r}" for key, x in about.items())
    path.write_text("\n".join(lines).replace('"', "'"))
    return path


def tone(path, *, hertz, seconds=9):
    time = np.arange(round(seconds * 22_050)) / 22_050
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * hertz * time), 22_050)


def library(root, names):
    ids = [f"t{x}" for x in range(len(names))]
    tracks = pl.DataFrame({"id": ids, "artist": "a", "title": ids, "path": list(names)})
    for row, name in enumerate(names):
        tone(root / name, hertz=300 + 90 * row)
    return Catalogue(pl.DataFrame({"id": ["a"], "name": ["A"]}), tracks, audio_root=root)


def test_ears_hear_in_the_pass_that_makes_log_mel_pictures(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(extraction, "SHARD", 2)
    music = library(tmp_path, ["a.wav", "b.wav", "c.wav"])
    ears = install_ears(tiny(tmp_path / "own.toml"))
    assert [x.contract for x in installed()] == [ears.contract]
    extraction_ = extract(music, tmp_path / "mel", workers=1, ears=choose_ears("auto"))
    assert len(extraction_.done.ids) == 3
    (heard_,) = read_heard(tmp_path / "mel", music.ids("track"))
    assert heard_.about == {
        "name": "tiny",
        "sha256": ears.contract.digest,
        "licence": "CC0",
        "training": "nothing",
    }
    for row, name in enumerate(["a.wav", "b.wav", "c.wav"]):
        sound = file.read(tmp_path / name)
        chunks = sound.chunks / sound.gain
        assert len(chunks) == 3
        assert np.abs(chunks).max() == pytest.approx(0.3, abs=0.001)  # as loud as in the file
        expected = cut_pieces(chunks[[0, 2]], ears.contract) @ matrix(WIDTH)
        vector = heard_.vectors.vectors[heard_.vectors.index[f"t{row}"]]
        np.testing.assert_allclose(vector, expected.mean(axis=0), rtol=1e-4, atol=1e-5)


def test_pieces_are_the_middle_of_each_chunk_and_pictures_those_of_the_contract():
    about = Contract(
        "x", "CC0", "nothing", "0" * 64, rate=11_025, seconds=0.7, output="vector", width=3
    )
    chunks = np.random.default_rng(0).normal(size=(2, 40_000)).astype(np.float32)
    waves = np.stack([soxr.resample(x, 22_050, 11_025) for x in chunks])
    samples = round(0.7 * 11_025)
    first = (waves.shape[1] - samples) // 2
    np.testing.assert_array_equal(cut_pieces(chunks, about), waves[:, first : first + samples])
    pictures = replace(about, input="log-mel", window=256, hop=100, bands=20)
    power = mel_power(waves, Mel(11_025, 256, 100, 20))
    frames = samples // 100
    first = (power.shape[2] - frames) // 2
    expected = np.log10(1 + 10_000 * power[:, :, first : first + frames])
    np.testing.assert_allclose(cut_pieces(chunks, pictures), expected, rtol=1e-5)
    natural = cut_pieces(chunks, replace(pictures, logarithm="ln"))
    np.testing.assert_allclose(natural, expected * np.log(10), rtol=1e-5)
    short = cut_pieces(chunks[:, :3_000], about)
    assert short.shape == (2, samples)
    assert np.abs(short[:, -1_000:]).mean() > 0.5  # repeated, not filled with silence


def test_a_catalogue_is_heard_again_only_where_ears_have_not_heard_it(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(extraction, "SHARD", 2)
    music, mel = library(tmp_path, ["a.wav", "b.wav", "c.wav"]), tmp_path / "mel"
    asked, real = [], extraction.decode

    def spy(paths, **options):
        paths = list(paths)
        asked.extend(path.name for path in paths)
        return real(paths, **options)

    monkeypatch.setattr(extraction, "decode", spy)
    assert choose_ears("auto") is None
    before = extract(music, mel, workers=1, ears=choose_ears("auto")).done.read(1)
    assert len(asked) == 3
    assert not read_heard(mel, music.ids("track"))
    install_ears(tiny(tmp_path / "own.toml"))
    done = extract(music, mel, workers=1, ears=choose_ears("auto")).done
    assert len(asked) == 6
    np.testing.assert_array_equal(done.read(1), before)
    assert sorted(x.name for x in mel.glob("*.npy")) == ["00002.npy", "00003.npy"]
    first = read_heard(mel, music.ids("track"))[0].vectors
    extract(music, mel, workers=1, ears=choose_ears("tiny"))
    extract(music, mel, workers=1)  # ears that nobody mentions stay
    assert len(asked) == 6
    np.testing.assert_array_equal(
        read_heard(mel, music.ids("track"))[0].vectors.vectors, first.vectors
    )
    install_ears(tiny(tmp_path / "own.toml", seed=5))  # other weights under the same name
    extract(music, mel, workers=1, ears=choose_ears("tiny"))
    assert len(asked) == 9
    again = read_heard(mel, music.ids("track"))[0].vectors
    assert np.abs(again.vectors - first.vectors).min() > 0
    install_ears(tiny(tmp_path / "own.toml", seed=5, pieces=1))  # the same weights, asked otherwise
    extract(music, mel, workers=1, ears=choose_ears("tiny"))
    assert len(asked) == 12
    extract(music, mel, workers=1, ears=choose_ears("none"))
    assert len(asked) == 12
    assert not read_heard(mel, music.ids("track"))


def test_an_interrupted_hearing_goes_on(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(extraction, "SHARD", 2)
    music = library(tmp_path, ["a.wav", "b.wav", "c.wav", "d.wav"])
    install_ears(tiny(tmp_path / "own.toml"))
    chosen = choose_ears("auto")
    whole = tmp_path / "whole"
    extract(music, whole, workers=1, ears=chosen)

    class Stopped(Exception):
        pass

    def stop(stage, done, total, note=""):
        if done == 3:
            raise Stopped

    mel = tmp_path / "mel"
    with pytest.raises(Stopped):
        extract(music, mel, workers=1, ears=chosen, progress=stop)
    assert not read_heard(mel, music.ids("track"))
    extract(music, mel, workers=1, ears=chosen)
    for path in whole.rglob("*.parquet"):
        assert (mel / path.relative_to(whole)).read_bytes() == path.read_bytes()


def broken(kind, path):
    """Write one pair of files of which something is wrong."""
    from onnx import TensorProto, helper, numpy_helper

    node = helper.make_node
    if kind == "external":
        weights = numpy_helper.from_array(np.zeros((SAMPLES, WIDTH), np.float32), "far")
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        entry = weights.external_data.add()
        entry.key, entry.value = "location", "beside.bin"
        (path.parent / "beside.bin").write_bytes(bytes(4 * SAMPLES * WIDTH))
        nodes = [node("MatMul", ["wave", "far"], ["vector"])]
        return tiny(path, nodes, weights=[weights], tags="", words=())
    if kind == "endless":
        floats = helper.make_tensor_value_info
        body = helper.make_graph(
            [node("Identity", ["go"], ["on"]), node("Sin", ["x"], ["y"])],
            "body",
            [
                floats("step", TensorProto.INT64, []),
                floats("go", TensorProto.BOOL, []),
                floats("x", TensorProto.FLOAT, None),
            ],
            [floats("on", TensorProto.BOOL, []), floats("y", TensorProto.FLOAT, None)],
        )
        count = numpy_helper.from_array(np.array(1 << 60), "count")
        nodes = [
            node("Loop", ["count", "", "wave"], ["z"], body=body),
            node("MatMul", ["z", "a"], ["vector"]),
        ]
        return tiny(path, nodes, weights=[count], tags="", words=())
    if kind == "not a number":
        return tiny(
            path,
            [node("Log", ["v"], ["vector"]), node("MatMul", ["wave", "a"], ["v"])][::-1],
            tags="",
            words=(),
        )
    if kind == "url":
        nodes = [
            node("Fetch", ["wave"], ["vector"], domain="https.example", url="https://x.example")
        ]
        return tiny(path, nodes, tags="", words=())
    if kind == "text":
        path.with_suffix(".onnx").write_text("no network")
        return contract(path, b"no network", width=3, words=WORDS)
    made = tiny(path, **{"shape": {"width": 8}, "samples": {"seconds": 0.7}}.get(kind, {}))
    changes = {
        "hash": ("sha256 = '", "sha256 = '00"),
        "key": ("rate", "speed"),
        "name": ("tiny", "audio"),
    }
    changes |= {"hash": (made.read_text()[made.read_text().index("sha256 = ") + 10 :][:9], "f" * 9)}
    if kind in changes:
        made.write_text(made.read_text().replace(*changes[kind], 1))
    if kind == "missing":
        path.with_suffix(".onnx").unlink()
    return made


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("external", "own.toml: these ears do not work: .*cannot be loaded.*beside.bin"),
        ("endless", "32 s of noise: not decoded within 2 s"),
        ("not a number", "32 s of noise: tiny answers what is no number"),
        ("url", "these ears do not work: .*cannot be loaded"),
        ("text", "these ears do not work: .*cannot be loaded"),
        ("shape", r"tiny answers \(1, 7\), expected \(1, 8\)"),
        ("samples", "cannot be run"),
        ("hash", "own.onnx has [0-9,]+ bytes and the sha256 [0-9a-f]{64}; expected .* fffffffff"),
        ("key", "own.toml: has no 'speed'"),
        ("name", "own.toml: name is 'audio'"),
        ("missing", "own.onnx cannot be read .*; put the network beside its contract"),
    ],
)
def test_ears_that_do_not_hear_are_refused_in_a_sentence(
    tmp_path, cache, monkeypatch, kind, sentence
):
    monkeypatch.setattr(installation, "TRIAL", 2)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UndersongError, match=sentence) as error:
        install_ears(broken(kind, tmp_path / "own.toml"))
    assert "\n" not in str(error.value)
    assert not cache.exists()


def test_ears_that_were_changed_are_not_used(tmp_path, cache):
    ears = install_ears(tiny(tmp_path / "own.toml"))
    ears.network.write_bytes(ears.network.read_bytes() + b"more")
    with pytest.raises(ArtifactError, match="changed since it was installed"):
        installed()
    again = install_ears(tiny(tmp_path / "own.toml", seed=3))  # mends it, and removes the old
    assert sorted(x.name for x in cache.iterdir()) == sorted([again.network.name, "tiny.toml"])
    assert installed() == (again,)


def test_a_track_of_which_ears_hear_nothing_keeps_its_sound(tmp_path, cache, monkeypatch):
    from onnx import helper

    # The logarithm of the mean is a number for the trial's noise alone, whose offset is above 0.
    monkeypatch.setattr(installation, "_try", lambda ears: None)
    nodes = [
        helper.make_node("MatMul", ["wave", "a"], ["v"]),
        helper.make_node("Log", ["v"], ["vector"]),
    ]
    install_ears(tiny(tmp_path / "own.toml", nodes, tags="", words=()))
    music = library(tmp_path, ["a.wav"])
    done = extract(music, tmp_path / "mel", ears=choose_ears("auto"))
    assert done.done.ids == ("t0",)
    assert done.damaged["reason"].to_list() == ["tiny answers what is no number"]
    assert read_heard(tmp_path / "mel", music.ids("track"))[0].vectors.ids == ()


def test_a_cluster_sends_what_ears_hear_as_a_decoder_here_does(tmp_path, cache, monkeypatch):
    pytest.importorskip("ray")
    from undersong.cluster import tasks

    monkeypatch.setattr(tasks, "stream", lambda decode, paths, *, a_task: decode(paths))
    ears = (install_ears(tiny(tmp_path / "own.toml")),)
    tone(tmp_path / "a.wav", hertz=440, seconds=5)
    (tmp_path / "bad.wav").touch()
    paths = [tmp_path / "a.wav", tmp_path / "bad.wav"]
    there, bad = tasks.decode_there(paths, ears)
    here, _ = decode(paths, workers=1, ears=ears)
    tasks._decoder(ears).stop()
    assert isinstance(bad, Undecodable)
    np.testing.assert_array_equal(there.log_mel, here.log_mel)
    np.testing.assert_array_equal(there.ears, here.ears)
    assert there.ears[0].shape == (WIDTH + len(WORDS),)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the threads of a process")
def test_a_child_with_ears_has_one_thread_and_reports_to_nobody(tmp_path, cache):
    ears = install_ears(tiny(tmp_path / "own.toml"))
    tone(tmp_path / "a.wav", hertz=440)
    decoder = Decoder(ears=(ears,))
    try:
        assert np.isfinite(decoder.decode(tmp_path / "a.wav").ears[0]).all()
        process = decoder._child.process.pid
        assert "Threads:\t1\n" in Path(f"/proc/{process}/status").read_text()
        opened = [x.readlink().name for x in Path(f"/proc/{process}/fd").iterdir()]
        assert not [x for x in opened if ".db" in x]
    finally:
        decoder.stop()


def test_words_of_the_sound_are_a_field_once_that_is_asked_for(tmp_path, cache):
    install_ears(tiny(tmp_path / "own.toml"))
    music = library(tmp_path, ["a.wav", "b.wav"])
    folder = tmp_path / "catalogue"
    write_catalogue(music, folder)
    extract(music, folder / EXTRACTED, workers=1, ears=choose_ears("auto"))
    (heard_,) = read_catalogue(folder).heard
    sound = file.read(tmp_path / "a.wav")
    pieces = cut_pieces((sound.chunks / sound.gain)[[0, 2]], installed()[0].contract)
    probable = (1 / (1 + np.exp(-pieces @ matrix(3, seed=1)))).mean(axis=0)
    likely = [WORDS[x] for x in np.argsort(-probable) if probable[x] >= 0.2]
    assert heard_.words[heard_.vectors.index["t0"]] == tuple(likely)
    assert len(likely) > 0
    assert not read_catalogue(folder).fields
    before = fingerprint(folder)
    extract(music, folder / EXTRACTED, workers=1, ears=choose_ears("auto"), words=True)
    extract(music, folder / EXTRACTED, workers=1, ears=choose_ears("auto"))  # stays
    assert fingerprint(folder) != before
    catalogue = read_catalogue(folder)
    assert [(x.name, x.kind) for x in catalogue.fields] == [
        ("sounds like", "artist"),
        ("sounds like", "track"),
    ]
    counts = Counter(word for words in heard_.words for word in words)
    commonest = [f"sounds {word}" for word, _ in counts.most_common(3)]
    assert catalogue.artists["sounds like"].to_list() == [commonest]
    assert catalogue.tracks["sounds like"][0].to_list() == [f"sounds {x}" for x in likely]
    write_catalogue(catalogue, folder)  # no copy of them in the tables
    extract(music, folder / EXTRACTED, workers=1, ears=choose_ears("auto"), words=False)
    assert fingerprint(folder) == before
    result = CliRunner().invoke(cli, ["extract", str(folder), "--words", "--ears", "none"])
    assert "--words needs pretrained ears" in result.output


# runs


def test_a_run_hears_new_songs_with_the_ears_that_heard_its_tracks(tmp_path, cache):
    ears = install_ears(tiny(tmp_path / "own.toml"))
    run = hearing_run(tmp_path)
    assert run.manifest["ears"] == [
        {"name": "tiny", "sha256": ears.contract.digest, "licence": "CC0", "training": "nothing"}
    ]
    content = run.embeddings("track", "content")
    assert content.vectors.shape[1] == 2 * 10
    music = tmp_path / "music"
    for row in (3, 11):
        track = content.ids[row]
        vector = embed_file(music / f"{track}.wav", open_encoders(run), ears_of(run))
        np.testing.assert_allclose(vector, content.vectors[row], atol=1e-3)
    card = html_card(run)
    assert "tiny, pretrained" in card
    assert "on nothing" in card
    again, new = train_run(
        tmp_path / "catalogue", run.folder, settings=read_settings(tmp_path / "quick.toml")
    )
    assert not new
    song = tagged(tmp_path / "new.flac", 4, artist="Somebody", title="New")
    remove_ears("tiny")
    assert "heard its tracks with the ears 'tiny'" in Model(run).audio_unavailable
    with pytest.raises(Unavailable, match="not installed here; run `undersong ears install tiny`"):
        add_entries(run, [song], kind="track")
    install_ears(tiny(tmp_path / "own.toml", seed=5))
    with pytest.raises(Unavailable, match="heard its tracks with the ears 'tiny'"):
        Model(run).sounds_like(song)
    _, new = train_run(
        tmp_path / "catalogue", run.folder, settings=read_settings(tmp_path / "quick.toml")
    )
    assert new  # other ears, other vectors
    (addition, *_) = add_entries(runs.read(run.folder), [song], kind="track")
    assert addition.what == "added"


def html_card(run):
    return " ".join(f"{x.name}: {x.licence}" for x in collect(run).origins)


def test_a_catalogue_that_other_ears_heard_is_not_embedded(tmp_path, cache):
    install_ears(tiny(tmp_path / "own.toml"))
    run = hearing_run(tmp_path)
    catalogue = read_catalogue(tmp_path / "catalogue")
    assert len(embed_catalogue(run, catalogue, "track", work=tmp_path / "w").ids)
    write_heard(tmp_path / "catalogue" / EXTRACTED, [])
    with pytest.raises(DataError, match="nothing of this catalogue was heard by these"):
        embed_catalogue(run, read_catalogue(tmp_path / "catalogue"), "track", work=tmp_path / "w")
