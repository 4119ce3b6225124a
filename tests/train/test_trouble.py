"""Where people trip: what torch raises becomes a sentence and a hint, by real failures of real networks."""

import pytest
import torch
from torch import nn

from cutaway.checkpoints import Run
from cutaway.cli import main
from cutaway.errors import DeviceError, NetworkError
from cutaway.train import TrainSettings, train
from cutaway.train.rehearsing import rehearsal
from cutaway.train.stepping import step
from cutaway.train.trouble import in_words

INPUTS, LABELS = torch.rand(4, 1, 2, 2), torch.tensor([0, 1, 1, 0])


def settings_for(tmp_path, pictures, **changes):
    return TrainSettings(
        **{"data": f"folder:{pictures}", "network": "lenet5", "image_size": 28, "epochs": 2, "batch_size": 16}
        | {"out": tmp_path / "run"}
        | changes
    )


def running_out(monkeypatch, after):
    """Makes the network run out of memory in its forward pass, as a GPU does, after so many pictures."""
    from cutaway.networks import small

    class Greedy(nn.Flatten):
        seen = 0

        def forward(self, x):
            Greedy.seen += 0 if x.is_meta else len(x)
            if Greedy.seen > after:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …")
            return super().forward(x)

    monkeypatch.setattr(small.nn, "Flatten", Greedy)
    return Greedy


def test_too_little_memory_proposes_half_the_batch_twice(tmp_path, pictures, monkeypatch):
    greedy = running_out(monkeypatch, after=180)
    settings = settings_for(tmp_path, pictures, epochs=4)
    with pytest.raises(DeviceError, match="batches of 16 pictures") as error:
        train(settings)
    assert "--batch-size 8 --accumulate 2:" in error.value.hint
    assert isinstance(error.value.__cause__, torch.OutOfMemoryError)
    # The step that failed left nothing behind, and what was saved before goes on with what the hint says.
    kept = Run(settings.out).bundles()
    assert kept
    greedy.seen = -(10**9)
    smaller = settings.model_copy(update={"batch_size": 8, "accumulate": 2})
    last = train(smaller, override=("batch_size", "accumulate")).last
    assert last.manifest.progress.epoch == 4
    assert last.manifest.progress.step % 4 == 0


def test_the_command_says_it_too(tmp_path, pictures, monkeypatch, capsys):
    running_out(monkeypatch, after=0)
    words = f"train --network lenet5 --data folder:{pictures} --image-size 28 --out {tmp_path / 'r'} --accumulate 3"
    assert main(words.split()) == 1
    said = capsys.readouterr().err
    assert "too little memory for batches of 128 pictures" in said
    assert "--batch-size 64 --accumulate 6" in said


def test_what_is_tried_before_a_training_says_it_too(tmp_path, pictures):
    with pytest.raises(DeviceError, match="batches of 16"), rehearsal(settings_for(tmp_path, pictures)):
        raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize(
    "raised",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.96 GB, other allocations: 1.20 MB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
    ],
)
@pytest.mark.parametrize(("size", "hint"), [(32, "--batch-size 16 --accumulate 2"), (2, "smaller --image-size")])
def test_every_allocator_is_understood(raised, size, hint):
    with pytest.raises(DeviceError) as error, in_words(TrainSettings(batch_size=size)):
        raise raised
    assert hint in error.value.hint


def test_the_cpu_s_own_words_are_understood():
    with pytest.raises(DeviceError), in_words(TrainSettings()):
        torch.empty(10**15)


class Elsewhere(nn.Module):
    """Keeps a tensor that is neither parameter nor buffer, so that it stays where it was made."""

    def __init__(self):
        super().__init__()
        self.scores = nn.Linear(4, 2)
        self.mean = torch.zeros(4, device="meta")

    def forward(self, x):
        return self.scores(x.flatten(1) - self.mean)


def test_a_tensor_on_another_device_is_told(make_session):
    session = make_session(Elsewhere())
    with pytest.raises(NetworkError, match="another device") as error, in_words(session.settings):
        step(session, INPUTS, LABELS, 0.1)
    assert "register_buffer" in error.value.hint


def test_other_faults_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), in_words(TrainSettings()):
        nn.Linear(3, 2)(torch.rand(2, 4))


class Giving(nn.Module):
    def __init__(self, output):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.output = output

    def forward(self, x):
        return self.output(x * self.scale)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (lambda x: x, r"tensor \[4, 1, 2, 2\], not scores \[pictures, classes\]"),
        (lambda x: x.flatten(), r"tensor \[16\]"),
        (lambda x: {"out": x.flatten(1)}, "a dict"),
        (lambda x: (x.flatten(1), x), "a tuple"),
        (lambda x: x.flatten(1), "4 scores for 2 classes"),
    ],
)
def test_what_is_no_score_for_each_class_is_told(make_session, output, said):
    session = make_session(Giving(output))
    with pytest.raises(NetworkError, match=said):
        step(session, INPUTS, LABELS, 0.1)


def test_labels_in_a_csv_may_start_at_any_number(tmp_path, pictures):
    rows = [f"{pictures / name / f'{n}.png'},{label}" for label, name in ((1, "dark"), (10, "light"), (2, "grey"))
            for n in range(22)]  # fmt: skip
    (tmp_path / "list.csv").write_text("path,label\n" + "\n".join(rows))
    trained = train(settings_for(tmp_path, pictures, data=f"csv:{tmp_path / 'list.csv'}", epochs=1))
    assert trained.last.manifest.classes == ("1", "2", "10")


@pytest.mark.parametrize(
    ("changes", "said", "hint"),
    [
        ({"network": "torchvision:alexnet", "image_size": 32}, "pictures of 32x32 pixels", "--image-size 224"),
        ({"image_size": 8}, "at least 12x12", "--image-size 28"),
        ({"network": "torchvision:vit_b_16", "image_size": 64}, "exactly 224x224", "--image-size 224"),
    ],
)
def test_pictures_too_small_for_the_network_are_told(tmp_path, pictures, changes, said, hint):
    with pytest.raises(NetworkError, match=said) as error:
        train(settings_for(tmp_path, pictures, **changes))
    assert hint in error.value.hint
