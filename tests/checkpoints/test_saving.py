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


def after_a_first_save(saver, tensors, writer):
    """The first save copies everything at once, and looks at what changes until the update."""
    writer.let.set()
    steady = {(group, name) for group, members in tensors.items() for name in members}
    saver.save("first", None, tensors, after=lambda: None, steady=steady)
    saver.before_update()
    saver.wait()
    writer.written.clear()


def test_what_stays_until_the_next_update_is_copied_in_the_background_and_waited_for(writer, monkeypatch):
    saver, steady, fleeting = Saver(), torch.ones(3), torch.ones(3)
    let, waiting, copy = threading.Event(), threading.Event(), saving._copy

    def slow(pairs):
        if threading.current_thread() is not threading.main_thread():
            assert let.wait(30)
        return copy(pairs)

    tensors = {"model": {"weight": steady, "running_mean": fleeting}}
    after_a_first_save(saver, tensors, writer)
    monkeypatch.setattr(saving, "_copy", slow)
    saver.save("a", None, tensors, after=lambda: None, steady={("model", "weight")})
    fleeting.zero_()

    def update():
        saver.copied()
        steady.zero_()
        waiting.set()

    thread = threading.Thread(target=update)
    thread.start()
    assert not waiting.wait(0.1), "it may change before it was copied"
    let.set()
    thread.join(30)
    saver.wait()
    assert {name: tensor.tolist() for name, tensor in writer.written[0][1]["model"].items()} == {
        "weight": [1, 1, 1],
        "running_mean": [1, 1, 1],
    }
    saver.copied()


@pytest.mark.parametrize("behind_torch", [False, True])
def test_a_weight_that_the_forward_pass_changes_is_saved_as_it_was(writer, monkeypatch, behind_torch):
    weight, still, later = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3)), []

    def forward():
        with torch.no_grad():
            (weight.data if behind_torch else weight).mul_(2)

    saver, copy = Saver(), saving._copy

    def slow(pairs):
        if pairs and threading.current_thread() is not threading.main_thread():
            assert forwarded.wait(30)
            later.extend(tensor for _, tensor in pairs)
        return copy(pairs)

    forwarded = threading.Event()
    monkeypatch.setattr(saving, "_copy", slow)
    tensors = {"model": {"weight": weight, "still": still}}
    steady = {("model", "weight"), ("model", "still")}
    writer.let.set()
    for name in "ab":
        forwarded.clear()
        saver.save(name, None, tensors, after=lambda: None, steady=steady)
        if name == "a":
            saver.copied()  # as for a callback, before there is anything to be seen
        forward()
        forwarded.set()
        saver.before_update()
    saver.wait()
    assert [written["model"]["weight"].tolist() for _, written in writer.written] == [[1, 1, 1], [2, 2, 2]]
    assert [tensor.data_ptr() for tensor in later] == [still.data_ptr()]


def test_a_weight_that_changes_later_only_is_not_saved_half_changed(writer, monkeypatch):
    saver, weight, copy, changed = Saver(), torch.nn.Parameter(torch.ones(3)), saving._copy, threading.Event()
    after_a_first_save(saver, {"model": {"weight": weight}}, writer)

    def slow(pairs):
        if threading.current_thread() is not threading.main_thread():
            assert changed.wait(30)
        return copy(pairs)

    monkeypatch.setattr(saving, "_copy", slow)
    saver.save("a", None, {"model": {"weight": weight}}, after=lambda: None, steady={("model", "weight")})
    with torch.no_grad():
        weight.mul_(2)
    changed.set()
    saver.copied()
    with pytest.raises(BundleError, match="changed its 'weight'"):
        saver.wait()
    assert writer.written == []


def test_a_copy_that_fails_lets_the_training_go_on_to_the_news_of_it(writer, monkeypatch):
    saver = Saver()
    after_a_first_save(saver, {"model": {"w": torch.ones(1)}}, writer)

    def fail(pairs):
        if threading.current_thread() is not threading.main_thread():
            raise MemoryError
        return []

    monkeypatch.setattr(saving, "_copy", fail)
    saver.save("a", None, {"model": {"w": torch.ones(1)}}, after=lambda: None, steady={("model", "w")})
    saver.copied()
    with pytest.raises(MemoryError):
        saver.wait()


def test_where_no_thread_can_be_started_nobody_waits_for_it(writer, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    saver = Saver()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            saver.save("a", None, {}, after=lambda: None)
    waiting = threading.Thread(target=saver.copied, daemon=True)
    waiting.start()
    waiting.join(5)
    assert not waiting.is_alive()
    saver.join()
    writer.let.set()
    saver.save("b", None, {}, after=lambda: None)
    saver.wait()
    assert [path for path, _ in writer.written] == ["b"]


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
