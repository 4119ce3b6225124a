"""The saver: training may go on at once, nothing is mixed up, and what failed is told at the next step."""

import threading

import pytest
import torch

from cutaway.checkpoints import saving
from cutaway.checkpoints.saving import Saver
from cutaway.errors import BundleError


class Writer:
    """Stands in for `write_bundle`: writes when it is let, and remembers what it was given then."""

    def __init__(self):
        self.let = threading.Event()
        self.begun = threading.Event()
        self.written, self.inside, self.most = [], 0, 0
        self.fail = None

    def __call__(self, path, manifest, tensors):
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.begun.set()
        assert self.let.wait(30)
        if self.fail:
            raise self.fail
        self.written.append((path, {n: {k: t.clone() for k, t in g.items()} for n, g in tensors.items()}))
        self.inside -= 1


@pytest.fixture
def writer(monkeypatch):
    writer = Writer()
    monkeypatch.setattr(saving, "write_bundle", writer)
    yield writer
    writer.let.set()


def test_a_save_returns_before_it_is_written_and_writes_what_was_there_then(writer):
    saver, weight, pruned = Saver(), torch.ones(3), []
    saver.save("a", None, {"model": {"w": weight}}, after=lambda: pruned.append(len(writer.written)))
    assert writer.begun.wait(30)
    assert writer.written == []
    weight.zero_()
    saver.check()
    writer.let.set()
    saver.wait()
    assert writer.written[0][1]["model"]["w"].tolist() == [1, 1, 1]
    assert pruned == [1], "older bundles go after the new one is there"


def test_in_the_foreground_a_save_returns_when_it_is_written(writer):
    writer.let.set()
    Saver(in_background=False).save("a", None, {}, after=lambda: None)
    assert len(writer.written) == 1


def test_at_most_one_save_is_in_flight(writer):
    saver, second = Saver(), threading.Event()
    saver.save("a", None, {"model": {"w": torch.ones(1)}}, after=lambda: None)

    def again():
        saver.save("b", None, {"model": {"w": torch.zeros(1)}}, after=lambda: None)
        second.set()

    thread = threading.Thread(target=again)
    assert writer.begun.wait(30)
    thread.start()
    assert not second.wait(0.1), "the second save did not wait for the first, whose buffers it would write over"
    writer.let.set()
    thread.join(30)
    saver.wait()
    assert [path for path, _ in writer.written] == ["a", "b"]
    assert [group["model"]["w"].item() for _, group in writer.written] == [1, 0]
    assert writer.most == 1


@pytest.mark.parametrize("call", ["check", "wait", "save"])
def test_a_failed_save_is_told_at_the_next_call_and_nothing_is_written_after_it(writer, call):
    saver, pruned = Saver(), []
    writer.fail = BundleError("The disk is gone.")
    saver.save("a", None, {}, after=lambda: pruned.append(1))
    writer.let.set()
    saver.join()
    assert saver.failed
    arguments = ("b", None, {}, lambda: None) if call == "save" else ()
    with pytest.raises(BundleError, match="The disk is gone"):
        getattr(saver, call)(*arguments)
    assert writer.written == []
    assert pruned == [], "nothing older goes when the new one is not there"


def test_a_failed_pruning_step_is_told_too(writer):
    saver = Saver()
    writer.let.set()
    saver.save("a", None, {}, after=lambda: [][0])
    saver.join()
    with pytest.raises(IndexError):
        saver.check()


LAYOUTS = {
    "channels last": torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last),
    "transposed": torch.randn(3, 4).t(),
    "with gaps": torch.randn(6, 6)[::2, 1:5],
    "part of another": torch.randn(10)[3:7],
    "expanded": torch.randn(1, 3).expand(4, 3),
    "scalar": torch.tensor(3.0),
    "empty": torch.zeros(0, 3),
    "bfloat16": torch.randn(5).bfloat16(),
    "booleans": torch.tensor([True, False]),
    "of size one": torch.randn(2, 1, 3).transpose(0, 1),
}


def test_every_layout_and_type_is_copied_as_it_is(writer):
    saver = Saver()
    writer.let.set()
    for _ in range(2):  # once into new buffers, once into old
        saver.save("a", None, {"model": LAYOUTS}, after=lambda: None)
        saver.wait()
        for name, copy in writer.written[-1][1]["model"].items():
            assert copy.dtype == LAYOUTS[name].dtype, name
            assert torch.equal(copy, LAYOUTS[name]), name


def test_buffers_are_used_again_unless_the_tensor_changed_its_shape_or_layout(writer):
    saver = Saver()
    writer.let.set()
    seen = []

    def save(tensor):
        saver.save("a", None, {"model": {"w": tensor}}, after=lambda: None)
        saver.wait()
        assert torch.equal(writer.written[-1][1]["model"]["w"], tensor)
        seen.append(saver._buffers["model", "w"].data_ptr())

    first = torch.randn(2, 3, 2, 2)
    save(first)
    save(first + 1)
    save(first.to(memory_format=torch.channels_last))
    assert len(set(seen)) == 1
    save(torch.randn(5))
    save(torch.randn(5).double())
    assert torch.equal(writer.written[0][1]["model"]["w"], first)


def test_a_directory_that_is_gone_is_told_and_not_made_again(tmp_path):
    saver = Saver()
    path = tmp_path / "run" / "checkpoints" / "step-00000001"
    saver.save(path, None, {"model": {"w": torch.ones(1)}}, after=lambda: None)
    with pytest.raises(BundleError, match="cannot be written: No such file or directory"):
        saver.wait()
    assert list(tmp_path.iterdir()) == []
