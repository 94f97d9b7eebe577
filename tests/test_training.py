import numpy as np
import pytest
import torch
from torch import nn

from undersong import training
from undersong.errors import ArtifactError
from undersong.training import Schedule, lr_factor, train

QUICK = {"steps": 24, "validate_every": 4, "patience": 9, "precision": "float32"}


def setting(*, dropout=0.3):
    """A small regression that needs its dropout and batches drawn by step."""
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Dropout(dropout), nn.Linear(5, 2))

    def loss(generator):
        x = torch.from_numpy(generator.normal(size=(11, 3))).float()
        return (model(x) - x[:, :2]).square().mean()

    def validate(now):
        x = torch.linspace(-1, 1, 21).reshape(7, 3)
        return -(now(x) - x[:, :2]).square().mean().item()

    return model, loss, validate


def run(tmp_path, schedule, *, seed=0, dropout=0.3, **changes):
    """Train the model of ``setting``; ``changes`` are other arguments of ``train``."""
    model, loss, validate = setting(dropout=dropout)
    arguments = {"loss": loss, "validate": validate} | changes
    checkpoint = tmp_path / "c.safetensors"
    outcome = train(model, schedule=schedule, seed=seed, checkpoint=checkpoint, **arguments)
    return model, outcome


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_without_a_judge_the_last_weights_stay_and_no_score_is_made_up(tmp_path):
    model, loss, _ = setting()
    notes, seen = [], {}

    def progress(stage, done, total, note=""):
        notes.append(note)
        seen.update(weights(model))

    outcome = train(
        model,
        loss=loss,
        validate=None,
        schedule=Schedule(**QUICK),
        seed=0,
        checkpoint=tmp_path / "c.safetensors",
        progress=progress,
    )
    assert outcome.steps == outcome.best_step == QUICK["steps"]
    assert outcome.scores == []
    assert notes[0] == ""
    assert all(x.startswith("loss ") for x in notes[1:])
    assert all(torch.equal(value, seen[name]) for name, value in weights(model).items())


def test_before_the_first_validation_the_loss_is_shown(tmp_path):
    notes = []
    run(tmp_path, Schedule(**QUICK), progress=lambda *words: notes.append("".join(words[3:])))
    first = QUICK["validate_every"]
    assert all(x.startswith("loss ") for x in notes[1:first])
    assert notes[first].startswith("best -")
    assert not any("inf" in x for x in notes)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_an_interrupted_run_ends_like_one_that_was_not(tmp_path, average, monkeypatch):
    schedule = Schedule(**QUICK, average=average)
    whole, outcome = run(tmp_path / "whole", schedule)

    steps = []

    def stop_at_14(stage, done, total, note=""):
        steps.append(done)
        if done == 14:
            raise KeyboardInterrupt

    model, loss, validate = setting()
    common = {"loss": loss, "validate": validate, "schedule": schedule, "seed": 0}
    checkpoint = tmp_path / "part" / "c.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(model, **common, checkpoint=checkpoint, progress=stop_at_14)
    model, loss, validate = setting()
    common |= {"loss": loss, "validate": validate}
    resumed = train(model, **common, checkpoint=checkpoint, progress=lambda *a: steps.append(a[1]))
    assert steps[15:17] == [12, 13]  # goes on after the validation of step 12
    assert resumed.scores == outcome.scores
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(model)[name], value, rtol=0, atol=0)


def test_keeps_the_weights_that_validated_best(tmp_path):
    scores = iter([1.0, 5.0, 2.0, 3.0, 4.0, 4.5])
    seen = []

    def validate(now):
        seen.append(weights(now))
        return next(scores)

    model, outcome = run(tmp_path, Schedule(**QUICK), validate=validate)
    assert (outcome.best_step, outcome.best_score) == (8, 5.0)
    for name, value in weights(model).items():
        torch.testing.assert_close(value, seen[1][name], rtol=0, atol=0)


def test_stops_when_validation_no_longer_gains(tmp_path):
    _, outcome = run(tmp_path, Schedule(**{**QUICK, "patience": 2}), validate=lambda now: 0.0)
    assert outcome.steps == 12
    assert outcome.finished


def test_learns(tmp_path):
    _, outcome = run(tmp_path, Schedule(**{**QUICK, "steps": 80}, learning_rate=0.02), dropout=0.0)
    assert outcome.best_score > 0.2 * outcome.scores[0][1]
    assert outcome.scores[-1][2] < 0.5 * outcome.scores[0][2]


def test_another_seed_begins_anew_and_draws_other_batches(tmp_path):
    first, _ = run(tmp_path, Schedule(**QUICK), seed=0)
    second, _ = run(tmp_path, Schedule(**QUICK), seed=1)
    assert not torch.equal(first[0].weight, second[0].weight)


def test_a_finished_run_is_not_trained_again(tmp_path):
    first, outcome = run(tmp_path, Schedule(**QUICK))

    def never(generator):
        raise AssertionError("drew a batch")

    model, again = run(tmp_path, Schedule(**QUICK), loss=never)
    assert again.scores == outcome.scores
    torch.testing.assert_close(model[0].weight, first[0].weight, rtol=0, atol=0)


def test_a_loss_that_is_not_finite_names_the_remedy(tmp_path):
    nothing = torch.full((2,), float("nan"), requires_grad=True)
    with pytest.raises(ArtifactError, match=r"loss is nan at step 0; lower learning_rate"):
        run(tmp_path, Schedule(**QUICK), loss=lambda generator: nothing.sum())


def test_a_damaged_checkpoint_is_refused(tmp_path):
    (tmp_path / "c.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ArtifactError, match="is damaged .*; delete it to begin anew"):
        run(tmp_path, Schedule(**QUICK))


def test_a_checkpoint_of_another_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "FORMAT", 99)
    run(tmp_path, Schedule(**QUICK))
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match="format 99, but this version reads 1"):
        run(tmp_path, Schedule(**QUICK))


def test_the_learning_rate_warms_up_and_ends_near_zero():
    schedule = Schedule(steps=100, warmup=0.1)
    shares = np.array([lr_factor(step, schedule) for step in range(100)])
    assert shares.argmax() == 10
    assert shares[10] == 1
    assert (np.diff(shares[:10]) > 0).all()
    assert shares[-1] < 0.001


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "must be 1 or more"),
        ({"warmup": 1.0}, r"must be in \[0, 1\)"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"precision": "half"}, "precision 'half' must be"),
    ],
)
def test_refuses_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**settings)


def test_weights_that_lie_channels_last_are_kept_in_checkpoints(tmp_path):
    torch.manual_seed(7)
    model = nn.Conv2d(3, 5, kernel_size=2).to(memory_format=torch.channels_last)
    checkpoint = tmp_path / "c.safetensors"
    picture = torch.linspace(-1, 1, 3 * 7 * 6).reshape(1, 3, 7, 6)
    schedule = Schedule(**{**QUICK, "steps": 4})

    def again():
        return train(
            model,
            loss=lambda _: model(picture).square().mean(),
            validate=lambda now: -now(picture).square().mean().item(),
            schedule=schedule,
            seed=0,
            checkpoint=checkpoint,
        )

    outcome = again()
    learned = model.weight.detach().clone()
    nn.init.zeros_(model.weight)
    assert again() == outcome
    torch.testing.assert_close(model.weight.detach(), learned)
