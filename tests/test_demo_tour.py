from planted import QUICK_SETTINGS
from undersong import runs
from undersong.lab.synthetic.tour import tour
from undersong.pipeline.run_settings import read_settings
from undersong.progress import silent


def walk(folder, settings):
    lines = []
    tour(folder, seed=3, artists=24, say=lines.append, progress=silent, settings=settings)
    return "\n".join(lines)


def test_the_walk_goes_from_audio_files_to_answers_and_is_short_the_second_time(tmp_path):
    (tmp_path / "quick.toml").write_text(QUICK_SETTINGS)
    settings = read_settings(tmp_path / "quick.toml")
    first = walk(tmp_path / "demo", settings)
    assert "This demo is generated: 24 artists who do not exist" in first
    assert "are too few to judge" in first  # of 24 artists few are hidden
    assert first.count("undersong similar") == 2  # a known artist and a long-tail artist
    assert "\\x" not in first
    assert f"undersong serve {tmp_path / 'demo' / 'shelf'}" in first
    assert runs.read(tmp_path / "demo" / "shelf").items("artist").height == 24
    assert "no known link" in first
    run = runs.read(tmp_path / "demo" / "run")
    assert len(run.embeddings("track", "content").ids) > 60
    assert len(run.embeddings("artist", "general").ids) == 24
    assert (tmp_path / "demo" / "run" / "report.md").exists()
    catalogue = (tmp_path / "demo" / "catalogue" / "catalogue.json").stat().st_mtime_ns
    walk(tmp_path / "demo", settings)
    assert runs.read(tmp_path / "demo" / "run").generation == "1"
    again = (tmp_path / "demo" / "catalogue" / "catalogue.json").stat().st_mtime_ns
    assert again == catalogue
